"""When leases are over, by a wall clock that may be set back."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

LONGEST_LEASE = 600.0
"""Seconds from now until the end of any lease of a server, or until released work may be leased again.

A time that is later was written before the clock was set back. Waiting for it would leave the work alone for as long.
"""


def is_over(expires_at: float | None, now: float) -> bool:
    """Return whether a lease is over; True if there was none, whose end is None."""
    return expires_at is None or expires_at <= now or expires_at > now + LONGEST_LEASE


def over(expires_at: sa.ColumnElement[Any], now: float) -> sa.ColumnElement[bool]:
    """Return the condition that a lease is over, as `is_over` decides."""
    return sa.or_(expires_at.is_(None), expires_at <= now, expires_at > now + LONGEST_LEASE)
