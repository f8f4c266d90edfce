"""The scripts that languages are written in, and which script a text is in."""

from __future__ import annotations

from collections import Counter

import regex

from ampsweep.domain.languages import script_of

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
    if script not in _PROPERTIES:
        return None
    counts = letters_by_script(text)
    return sum(counts[name] for name in _PROPERTIES[script]) * 2 > counts.total()


def letters_by_script(text: str) -> Counter[str]:
    """Return how many letters of each script a text has, by Unicode's names; letters of other scripts as `Other`."""
    return Counter(match.lastgroup for match in _LETTERS.finditer(text))


_NAMES = sorted({name for names in _PROPERTIES.values() for name in names})
_LETTERS = regex.compile(
    r"(?=\p{L})(?:" + "".join(rf"(?P<{name}>\p{{Script={name}}})|" for name in _NAMES) + r"(?P<Other>.))"
)
