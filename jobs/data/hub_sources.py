"""The data sets of the Hugging Face Hub: repository, revision, and the names of their languages and splits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ampsweep.domain.languages.codes import FLORES_CODES
from ampsweep.domain.languages.names import ENGLISH_NAMES

Layout = Literal["split.language", "language", "split/language", "parallel facts"]


@dataclass(frozen=True, kw_only=True)
class HubSource:
    """A data set on the Hub.

    Attributes:
        repo: The repository.
        revision: The pinned commit; with None the commit that is the newest at the first download is kept.
        configs: The repository's configuration for each language, or the value of the language column.
        splits: The name under which Ampsweep stores each split of the repository.
        layout: The layout of the stored files.
        language_column: The column with the language, of a repository with one table for all languages.
    """

    repo: str
    revision: str | None
    configs: Mapping[str, str]
    splits: Mapping[str, str]
    layout: Layout
    language_column: str | None = None


def _same_codes(languages: str) -> dict[str, str]:
    return {language: language for language in languages.split()}


def _named(languages: str) -> dict[str, str]:
    return {language: ENGLISH_NAMES[language] for language in languages.split()}


SOURCES: Mapping[str, HubSource] = {
    "xcopa": HubSource(
        repo="cambridgeltl/xcopa",
        revision="042f78955ba48e6404616762fa6e05e839c3907a",
        configs=_same_codes("et ht id it qu sw ta th tr vi zh"),
        splits={"validation": "val", "test": "test"},
        layout="split.language",
    ),
    "xwinograd": HubSource(
        repo="Muennighoff/xwinograd",
        revision="90b619ef5278605cd4f572e3e8506ab16afd44f2",
        configs={**_same_codes("en fr pt ru zh"), "ja": "jp"},
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
        configs=_same_codes("en nl id ms vi ja zh fr pt ru et it ta th tr"),
        splits={"test": "test"},
        layout="parallel facts",
    ),
    "clas": HubSource(
        repo="DGurgurov/CLaS-Bench",
        revision=None,
        configs=_same_codes(
            "ar bo cs da de el en es fa fr hi id it ja ka kk ko mt nl no pl pt ro ru sk sv sw th tr uk vi zh"
        ),
        splits={"train": "train"},
        layout="language",
        language_column="language_code",
    ),
}
"""FLORES+ is gated: accept its terms on the Hub, and set HF_TOKEN to a token of the account that did."""
