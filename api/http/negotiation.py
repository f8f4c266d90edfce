"""Content negotiation (RFC 9110, 12.5): the media type of a response by `Accept`, gzip by `Accept-Encoding`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ampsweep.errors import NotAcceptable, shortened

_MAX_SHOWN = 200
"""Characters of a header that an error repeats."""


def best_media_type(accept: str | None, media_types: Sequence[str]) -> str:
    """Return the media type that a client prefers, the first of those it prefers equally.

    Args:
        accept: The `Accept` header; without one the first media type is chosen.
        media_types: The media types that the server offers, in its order of preference.

    Raises:
        NotAcceptable: The client accepts none of them.
    """
    if accept is None or not accept.strip():
        return media_types[0]
    accepted = dict(_qualities(accept))
    qualities = {media_type: _quality(accepted, media_type) for media_type in media_types}
    best = max(media_types, key=lambda media_type: qualities[media_type])  # max returns the first of equals
    if qualities[best] <= 0:
        raise NotAcceptable(
            f"Accept: {shortened(accept, _MAX_SHOWN)} allows no media type of this response; accept one of "
            f"{', '.join(media_types)}",
            param="Accept",
        )
    return best


def accepts_gzip(accept_encoding: str | None) -> bool:
    """Return whether a client accepts a response compressed with gzip."""
    accepted = dict(_qualities(accept_encoding or ""))
    return accepted.get("gzip", accepted.get("*", 0.0)) > 0


def _quality(accepted: dict[str, float], media_type: str) -> float:
    kind = media_type.partition("/")[0]
    return next((accepted[name] for name in (media_type, f"{kind}/*", "*/*") if name in accepted), 0.0)


def _qualities(header: str) -> Iterator[tuple[str, float]]:
    """Yield the entries of a header with their quality values; an invalid quality value is 0."""
    for entry in header.split(","):
        name, *parameters = (part.strip().lower() for part in entry.split(";"))
        text = next((parameter[2:] for parameter in parameters if parameter.startswith("q=")), "1")
        try:
            quality = float(text)
        except ValueError:
            quality = 0.0
        yield name, quality if 0 < quality <= 1 else 0.0  # NaN fails the comparison
