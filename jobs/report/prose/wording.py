"""Words for numbers and conclusions in sentences."""

from __future__ import annotations

from collections.abc import Iterable

NOT_SIGNIFICANT = "not significant"
WITHIN_NOISE = "within noise"
INCONCLUSIVE = (NOT_SIGNIFICANT, WITHIN_NOISE)
"""The conclusions from a difference that shows no effect (`jobs.report.sql.views`)."""


def amount(value: float, digits: int | None = 2) -> str:
    """Return a number for a sentence: with two decimals, or more for a small one; without `digits` the shortest form.

    A value that is not 1 is never rounded to 1, nor one that is not 0 to 0.
    """
    value += 0.0  # no sign of zero
    if digits is None:
        return f"{value:g}"
    text = f"{value:.{digits}f}"
    is_rounded_away = float(text) in (0.0, 1.0, -1.0) and float(text) != value
    return f"{value:.{digits + 2}f}" if is_rounded_away and abs(value - float(text)) >= 0.5e-4 else text


def signed(value: float) -> str:
    """Return a number with its sign."""
    text = amount(value)
    return text if text.startswith("-") or not float(text) else f"+{text}"


def between(values: Iterable[float], digits: int | None = 2) -> str:
    """Return the range of numbers, `0.50 to 0.90`, or the one number if they are equal when rounded."""
    numbers = list(values)
    low, high = amount(min(numbers), digits), amount(max(numbers), digits)
    return low if low == high else f"{low} to {high}"


def count_of(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural where it is not 1."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def listed(texts: Iterable[str]) -> str:
    """Return texts as a list in a sentence: `a, b and c`."""
    items = list(texts)
    return " and ".join(filter(None, [", ".join(items[:-1]), *items[-1:]]))


def below_mde(number: int) -> list[str]:
    """Return what to say of significant differences that are smaller than the minimum detectable effect."""
    return [f"{number} below the minimum detectable effect, so likely overestimated"] if number else []
