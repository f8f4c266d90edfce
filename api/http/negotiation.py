"""What a client takes: the form of an answer by `Accept`, and whether it may come as gzip (RFC 9110, 12.5)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ampsweep.errors import NotAcceptable


def best_media_type(accept: str | None, forms: Sequence[str]) -> str:
    """Return the media type of `forms` that a client likes best, the first of equals.

    A client that does not say takes the first. Raises NotAcceptable for one that takes none.
    """
    if accept is None or not accept.strip():
        return forms[0]
    wanted = dict(_weighed(accept))
    liked = {form: _weight(wanted, form) for form in forms}
    best = max(forms, key=lambda form: liked[form])  # max keeps the first of equals
    if liked[best] <= 0:
        raise NotAcceptable(f"the answer comes as {', '.join(forms)}; Accept takes none of them", param="Accept")
    return best


def accepts_gzip(accept_encoding: str | None) -> bool:
    """Whether a client takes an answer as gzip."""
    wanted = dict(_weighed(accept_encoding or ""))
    return wanted.get("gzip", wanted.get("*", 0.0)) > 0


def _weight(wanted: dict[str, float], form: str) -> float:
    kind = form.partition("/")[0]
    return next((wanted[name] for name in (form, f"{kind}/*", "*/*") if name in wanted), 0.0)


def _weighed(header: str) -> Iterator[tuple[str, float]]:
    for entry in header.split(","):
        name, *parameters = (part.strip().lower() for part in entry.split(";"))
        quality = next((text[2:] for text in parameters if text.startswith("q=")), "1")
        try:
            weight = float(quality)
        except ValueError:
            weight = 0.0
        yield name, weight if 0 < weight <= 1 else 0.0  # not a number is none either
