"""Which language a code means, and what YAML makes of some codes."""

from __future__ import annotations

import pytest

from ampsweep.folders.languages import FLORES_CODES, meant_code, unknown_language


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
    known = {"zh", "ja", "id", "he", "fr", "ms", "de", "ar", "en"}
    assert meant_code(code, known) == meant


def test_the_known_code_may_be_the_long_one() -> None:
    assert meant_code("fr", ["eng_Latn", "fra_Latn"]) == "fra_Latn"


def test_every_flores_code_of_the_paper_means_its_short_code() -> None:
    assert {short: meant_code(flores, FLORES_CODES) for short, flores in FLORES_CODES.items()} == {
        short: short for short in FLORES_CODES
    }


def test_the_error_asks_whether_the_likely_code_was_meant() -> None:
    error = unknown_language("language", "jp", ["ja", "fr"], param="languages.0")
    assert (error.code, error.param) == ("unknown_name", "languages.0")
    assert error.message == "unknown language 'jp'; known: fr, ja. Did you mean 'ja'?"
    assert unknown_language("language", "xx", ["ja"]).message == "unknown language 'xx'; known: ja"
