"""Splits lines into words as the Language Confusion Benchmark does (Marchisio et al. 2024)."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from importlib import metadata
from importlib.util import find_spec

from ampsweep.domain.languages.names import ENGLISH_NAMES
from ampsweep.errors import InvalidRequest

Splitter = Callable[[str], list[str]]
_MODULES = {"zh": ("jieba",), "ja": ("fugashi", "unidic_lite")}
"""The modules that split a language into words."""


@cache
def word_splitter(language: str) -> Splitter:
    """Return the function that splits a line of a language into words.

    Chinese is split by jieba, Japanese by MeCab with the dictionary UniDic (`unidic-lite`), every other language at
    white space. The packages are imported, and their dictionaries loaded, at the first call for the language.

    Raises:
        InvalidRequest: The package for the language is not installed.
    """
    require_word_splitter(language)
    if language == "zh":
        return _chinese()
    if language == "ja":
        return _japanese()
    return str.split


def require_word_splitter(language: str) -> None:
    """Raise InvalidRequest if a package that splits a language into words is not installed; imports nothing."""
    if missing := [module for module in _MODULES.get(language, ()) if find_spec(module) is None]:
        raise InvalidRequest(
            f"splitting {ENGLISH_NAMES[language]} into words needs {' and '.join(missing)}; "
            "run: pip install 'ampsweep[tasks]'"
        )


def tokenizer_name(language: str) -> str:
    """Return the name and version of what splits a language into words."""
    if language == "zh":
        return f"jieba {metadata.version('jieba')}"
    if language == "ja":
        return f"fugashi {metadata.version('fugashi')} with unidic-lite {metadata.version('unidic-lite')}"
    return "white space"


def _chinese() -> Splitter:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own syntax and of pkg_resources
        import jieba

    jieba.setLogLevel("ERROR")  # it prints the time that its dictionary took to load
    return lambda line: list(jieba.cut(line))


def _japanese() -> Splitter:
    import fugashi
    import unidic_lite

    # As published: surfaces only (wakati), and lines of up to 50,000 bytes.
    tagger = fugashi.GenericTagger(f"-O wakati -b 50000 -d {unidic_lite.DICDIR} -r {unidic_lite.DICDIR}/mecabrc")
    return lambda line: str(tagger.parse(line)).split()
