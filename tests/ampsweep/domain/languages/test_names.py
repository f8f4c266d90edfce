"""English names of languages are those of CLDR, and every two-letter code has one."""

from __future__ import annotations

import pytest
from babel import Locale

from ampsweep.domain.languages.codes import script_of, short_code
from ampsweep.domain.languages.names import ENGLISH_NAMES, english_name

CLDR = {str(code): str(name) for code, name in Locale("en").languages.items()}


def test_the_names_are_those_of_cldr() -> None:
    assert {code: name for code, name in ENGLISH_NAMES.items() if CLDR[code] != name} == {"bn": "Bengali"}


def test_every_two_letter_code_has_a_name() -> None:
    two_letters = {short_code(code) for code in CLDR if "_" not in code and script_of(code)}
    assert len(two_letters) > 100
    assert two_letters <= set(ENGLISH_NAMES)


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("de", "German"),
        ("deu", "German"),
        ("deu_Latn", "German"),
        ("ckb_Arab", "Central Kurdish"),
        ("zho_Hans", "Chinese"),
        ("zho_Hant", "Traditional Chinese"),
        ("kas_Deva", None),
        ("xx", None),
        ("", None),
    ],
)
def test_a_script_that_is_not_the_usual_one_makes_another_language(code: str, name: str | None) -> None:
    assert english_name(code) == name
