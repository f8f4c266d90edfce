"""Results of checks: what was found, whether it is a problem, and how to fix it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "note", "bad"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The result of a check: `ok`, `note` (worth knowing) or `bad` (must be fixed; `remedy` says how)."""

    subject: str
    state: State
    detail: str
    remedy: str = ""


def ok(subject: str, detail: str) -> Finding:
    """Return a finding that needs no action."""
    return Finding(subject=subject, state="ok", detail=detail)


def note(subject: str, detail: str, remedy: str = "") -> Finding:
    """Return a finding that is worth knowing."""
    return Finding(subject=subject, state="note", detail=detail, remedy=remedy)


def bad(subject: str, detail: str, remedy: str) -> Finding:
    """Return a finding that must be fixed."""
    return Finding(subject=subject, state="bad", detail=detail, remedy=remedy)
