"""The error about a language that is not among those that can be named, with the one that was probably meant."""

from __future__ import annotations

from collections.abc import Iterable

from ampsweep.domain.languages.codes import meant_code
from ampsweep.domain.languages.names import ENGLISH_NAMES
from ampsweep.errors import UnknownName

_CODES = {name.lower(): code for code, name in ENGLISH_NAMES.items()}


def unknown_language(
    what: str, code: str, valid_codes: Iterable[str], *, param: str | None = None, remedy: str | None = None
) -> UnknownName:
    """Return the error for an unknown language. It suggests the valid code that was probably meant.

    Args:
        what: What the code stands for, such as "language".
        code: The code, or an English name of a language in its place.
        valid_codes: The codes that are known.
        param: The field that has the code.
        remedy: What the language lacks.
    """
    names = tuple(valid_codes)
    meant = meant_code(code, names)
    if meant is None and (named := _CODES.get(code.strip().lower())):
        meant = named if named in names else meant_code(named, names)
    # A code that is spelled alike may be that of another language.
    return UnknownName(what, code, names, param=param, meant=meant, similar=False, remedy=remedy)
