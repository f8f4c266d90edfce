"""The scripts that languages are written in, and which script a text is in."""

from __future__ import annotations

from functools import cache, lru_cache

import regex

from ampsweep.domain.languages.codes import script_of

_PROPERTIES = {
    "Arab": ("Arabic",),
    "Armn": ("Armenian",),
    "Beng": ("Bengali",),
    "Cyrl": ("Cyrillic",),
    "Deva": ("Devanagari",),
    "Ethi": ("Ethiopic",),
    "Geor": ("Georgian",),
    "Grek": ("Greek",),
    "Gujr": ("Gujarati",),
    "Guru": ("Gurmukhi",),
    "Hang": ("Hangul",),
    "Hani": ("Han",),
    "Hans": ("Han",),
    "Hant": ("Han",),
    "Hebr": ("Hebrew",),
    "Jpan": ("Han", "Hiragana", "Katakana"),
    "Khmr": ("Khmer",),
    "Knda": ("Kannada",),
    "Kore": ("Han", "Hangul"),
    "Laoo": ("Lao",),
    "Latn": ("Latin",),
    "Mlym": ("Malayalam",),
    "Mymr": ("Myanmar",),
    "Orya": ("Oriya",),
    "Sinh": ("Sinhala",),
    "Taml": ("Tamil",),
    "Telu": ("Telugu",),
    "Thai": ("Thai",),
    "Tibt": ("Tibetan",),
}
"""Unicode's script properties by ISO 15924 code, of the scripts that FLORES-200 and GlotLID have."""


def is_in_script_of(text: str, language: str) -> bool | None:
    """Return whether more than half of a text's letters are of the script that a language is written in.

    None for a language whose script is not known. A text in Han characters without kana counts as Chinese and as
    Japanese script alike.
    """
    script = script_of(language)
    return None if script not in _PROPERTIES else _is_mostly_in(text, script)


@lru_cache(maxsize=16_384)  # a summary asks about the texts of a baseline once for every steered cell
def _is_mostly_in(text: str, script: str) -> bool:
    return 2 * len(_letters_of(script).findall(text)) > len(_LETTER.findall(text))


@cache
def _letters_of(script: str) -> regex.Pattern[str]:
    """Return the pattern of a letter of a script; a mark or a digit of the script is none."""
    properties = "".join(rf"\p{{Script={name}}}" for name in _PROPERTIES[script])
    return regex.compile(rf"(?=\p{{L}})[{properties}]")


_LETTER = regex.compile(r"\p{L}")
