"""The languages of the paper: two-letter codes, the codes FLORES names its files with, English names."""

from __future__ import annotations

FLORES_CODES = {
    "en": "eng_Latn",
    "nl": "nld_Latn",
    "id": "ind_Latn",
    "ms": "zsm_Latn",
    "vi": "vie_Latn",
    "ja": "jpn_Jpan",
    "zh": "zho_Hans",
    "fr": "fra_Latn",
    "pt": "por_Latn",
    "ru": "rus_Cyrl",
    "et": "est_Latn",
    "ht": "hat_Latn",
    "it": "ita_Latn",
    "qu": "quy_Latn",
    "sw": "swh_Latn",
    "ta": "tam_Taml",
    "th": "tha_Thai",
    "tr": "tur_Latn",
}

ENGLISH_NAMES = {
    "en": "English",
    "nl": "Dutch",
    "id": "Indonesian",
    "ms": "Malay",
    "vi": "Vietnamese",
    "ja": "Japanese",
    "zh": "Chinese",
    "fr": "French",
    "pt": "Portuguese",
    "ru": "Russian",
    "et": "Estonian",
    "ht": "Haitian Creole",
    "it": "Italian",
    "qu": "Quechua",
    "sw": "Swahili",
    "ta": "Tamil",
    "th": "Thai",
    "tr": "Turkish",
}

_SHORT_CODES = {flores: short for short, flores in FLORES_CODES.items()}


def short_code(code: str) -> str:
    """Return the two-letter code for a FLORES code of the table; any other code as it is."""
    return _SHORT_CODES.get(code, code)
