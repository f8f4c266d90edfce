"""The error about an unknown language suggests the code that was probably meant."""

from __future__ import annotations

import pytest

from ampsweep.domain.languages.unknown import unknown_language


def test_the_error_asks_whether_the_likely_code_was_meant() -> None:
    error = unknown_language("language", "jp", ["ja", "fr"], param="languages.0")
    assert (error.code, error.param) == ("unknown_name", "languages.0")
    assert error.message == "unknown language 'jp'; known: fr, ja. Did you mean 'ja'?"
    assert unknown_language("language", "xx", ["ja"]).message == "unknown language 'xx'; known: ja"


@pytest.mark.parametrize(
    ("given", "valid_codes", "meant"),
    [
        ("german", ["de", "fr"], "de"),
        ("Northern Sotho", ["nso"], "nso"),
        ("german", ["deu_Latn", "fra_Latn"], "deu_Latn"),
        ("german", ["fr"], None),
        ("germ", ["de"], None),
    ],
)
def test_an_english_name_in_the_place_of_a_code_is_understood(
    given: str, valid_codes: list[str], meant: str | None
) -> None:
    hint = "" if meant is None else f". Did you mean {meant!r}?"
    known = ", ".join(sorted(valid_codes))
    error = unknown_language("language", given, valid_codes)
    assert error.message == f"unknown language {given!r}; known: {known}{hint}"
