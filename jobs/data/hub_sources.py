"""Where on the Hugging Face Hub each data set lies, at which revision, and under which name in which language."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ampsweep.domain.languages import ENGLISH_NAMES, FLORES_CODES

Layout = Literal["split.language", "language", "split/language", "parallel facts"]


@dataclass(frozen=True, kw_only=True)
class HubSource:
    """A repository of data sets: a configuration a language, and what its splits are called here.

    `revision` is the commit that is read; None, where none is known, takes the newest once and keeps it. `layout` is
    that of the files which are made of it.
    """

    repo: str
    revision: str | None
    configs: Mapping[str, str]
    splits: Mapping[str, str]
    layout: Layout


def _same(languages: str) -> dict[str, str]:
    return {language: language for language in languages.split()}


def _named(languages: str) -> dict[str, str]:
    return {language: ENGLISH_NAMES[language] for language in languages.split()}


SOURCES: Mapping[str, HubSource] = {
    "xcopa": HubSource(
        repo="cambridgeltl/xcopa",
        revision="042f78955ba48e6404616762fa6e05e839c3907a",
        configs=_same("et ht id it qu sw ta th tr vi zh"),
        splits={"validation": "val", "test": "test"},
        layout="split.language",
    ),
    "xwinograd": HubSource(
        repo="Muennighoff/xwinograd",
        revision="90b619ef5278605cd4f572e3e8506ab16afd44f2",
        configs={**_same("en fr pt ru zh"), "ja": "jp"},
        splits={"test": "test"},
        layout="language",
    ),
    "include": HubSource(
        repo="CohereLabs/include-base-44",
        revision="d2e1f6015f67a43c02a9a68db98e2298e2d6a660",
        configs=_named("et fr id it ja ms nl pt ru ta tr vi zh"),
        splits={"test": "test"},
        layout="language",
    ),
    "include_lite": HubSource(
        repo="CohereLabs/include-lite-44",
        revision=None,
        configs=_named("et fr id it ja ms nl pt ru ta tr vi zh"),
        splits={"test": "test"},
        layout="language",
    ),
    "flores200": HubSource(
        repo="openlanguagedata/flores_plus",
        revision="5fec6c13f9e5a4db2f745d4ec0d7c9721ddc4f06",
        configs={**FLORES_CODES, "et": "ekk_Latn", "zh": "cmn_Hans"},
        splits={"dev": "dev", "devtest": "devtest"},
        layout="split/language",
    ),
    "mlama_dod": HubSource(
        repo="inayarhmns/MLAMA-dod-185",
        revision=None,
        configs=_same("en nl id ms vi ja zh fr pt ru et it ta th tr"),
        splits={"test": "test"},
        layout="parallel facts",
    ),
}
"""FLORES+ is gated: its terms are accepted on the Hub, and the token of who did is in HF_TOKEN."""
