"""What a check found: a fact, whether it will do, and what to do where it will not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "note", "bad"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """`note` is worth knowing and keeps nothing from working; `bad` must be mended, by `remedy`."""

    subject: str
    state: State
    detail: str
    remedy: str = ""


def ok(subject: str, detail: str) -> Finding:
    """Return a finding that asks for nothing."""
    return Finding(subject=subject, state="ok", detail=detail)


def note(subject: str, detail: str, remedy: str = "") -> Finding:
    """Return a finding that is worth knowing."""
    return Finding(subject=subject, state="note", detail=detail, remedy=remedy)


def bad(subject: str, detail: str, remedy: str) -> Finding:
    """Return a finding that keeps something from working."""
    return Finding(subject=subject, state="bad", detail=detail, remedy=remedy)
