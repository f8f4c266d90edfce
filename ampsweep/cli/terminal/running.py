"""Runs the asynchronous body of a command so that Ctrl-C and SIGTERM end it in an orderly way."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import TypeVar

import typer

T = TypeVar("T")
TERMINATED = 128 + signal.SIGTERM


def run_to_end(body: Coroutine[object, object, T]) -> T:
    """Run `body` and return its result. Ctrl-C and SIGTERM cancel it; its `finally` blocks run before the exit."""
    try:
        return asyncio.run(_cancelled_by_sigterm(body))
    except asyncio.CancelledError:
        raise typer.Exit(TERMINATED) from None


async def _cancelled_by_sigterm(body: Coroutine[object, object, T]) -> T:
    task = asyncio.ensure_future(body)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        return await task
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
