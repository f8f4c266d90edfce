"""Which language a code means, and how YAML reads some codes."""

from __future__ import annotations

import pytest

from ampsweep.domain.languages.codes import (
    FLORES_CODES,
    flores_codes,
    is_target,
    meant_code,
    short_code,
    with_short_codes,
)


@pytest.mark.parametrize(
    ("code", "meant"),
    [
        ("zh-CN", "zh"),
        ("zh_CN", "zh"),
        ("cmn_Hans", "zh"),
        ("zho-hans", "zh"),
        ("jp", "ja"),
        ("in", "id"),
        ("iw", "he"),
        ("FR", "fr"),
        ("fra", "fr"),
        ("zsm_Latn", "ms"),
        ("deu_Latn", "de"),
        ("zho_Hant", None),
        ("arb_Latn", None),
        ("ace_Latn", None),
        ("xx", None),
        ("fr", None),
    ],
)
def test_an_unknown_code_may_mean_a_known_one(code: str, meant: str | None) -> None:
    valid_codes = {"zh", "ja", "id", "he", "fr", "ms", "de", "ar", "en"}
    assert meant_code(code, valid_codes) == meant


def test_the_known_code_may_be_the_long_one() -> None:
    assert meant_code("fr", ["eng_Latn", "fra_Latn"]) == "fra_Latn"


def test_every_flores_code_of_the_paper_means_its_short_code() -> None:
    assert {short: meant_code(flores, FLORES_CODES) for short, flores in FLORES_CODES.items()} == {
        short: short for short in FLORES_CODES
    }


@pytest.mark.parametrize(
    ("code", "short"),
    [
        ("fra_Latn", "fr"),
        ("fra", "fr"),
        ("zho_Hans", "zh"),
        ("cmn_Hans", "zh"),
        ("zsm_Latn", "ms"),
        ("est_Latn", "et"),
        ("ekk_Latn", "et"),
        ("deu_Latn", "de"),
        ("arb_Arab", "ar"),
        ("srp_Cyrl", "sr"),
        ("nob_Latn", "nb"),
        ("nno_Latn", "nn"),
    ],
)
def test_a_long_code_is_its_two_letter_code(code: str, short: str) -> None:
    assert short_code(code) == short_code(short) == short


@pytest.mark.parametrize(
    "code", ["zho_Hant", "yue_Hant", "arb_Latn", "srp_Latn", "kas_Deva", "ace_Arab", "azb_Arab", "ckb_Arab", "jp", "FR"]
)
def test_another_script_another_language_and_a_slip_stay_as_they_are(code: str) -> None:
    assert short_code(code) == code


def test_a_two_letter_code_has_the_flores_codes_that_stand_for_it() -> None:
    assert {short: flores_codes(short)[0] for short in FLORES_CODES} == FLORES_CODES
    assert flores_codes("zh") == ("zho_Hans", "cmn_Hans")
    assert flores_codes("ar") == ("ara_Arab", "arb_Arab")
    assert flores_codes("zho_Hant") == ()


def test_what_is_stored_under_two_codes_of_a_language_keeps_them() -> None:
    assert with_short_codes({"deu_Latn": 1, "en": 2}) == {"de": 1, "en": 2}
    assert with_short_codes({"fr": 1, "fra_Latn": 2, "deu": 3}) == {"fr": 1, "fra_Latn": 2, "deu": 3}


@pytest.mark.parametrize(
    ("language", "target", "expected"),
    [("fr", "fr", True), ("it", "fr+it", True), ("de", "fr+it", False), ("fr", None, False), ("f", "fr", False)],
)
def test_a_target_is_one_language_or_several(language: str, target: str | None, expected: bool) -> None:
    assert is_target(language, target) is expected
