"""The command line: the one place that puts the rooms together, with its heavy imports inside the commands."""

from __future__ import annotations

from ampsweep.cli.app import app, main

__all__ = ["app", "main"]
