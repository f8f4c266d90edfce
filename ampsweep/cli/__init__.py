"""The command line, which connects all packages. Commands import heavy modules only when they run."""

from __future__ import annotations

from ampsweep.cli.app import app, main

__all__ = ["app", "main"]
