from __future__ import annotations

import pytest

from jobs.language_control.scripts import is_in_script_of, letters_by_script


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("Watashi wa neko desu", "ja", False),
        ("私は猫です", "ja", True),
        ("カタカナ", "ja", True),
        ("我是一只猫", "zh", True),
        ("我是一只猫", "zho_Hant", True),
        ("я кошка", "ru", True),
        ("ya koshka", "ru", False),
        ("Ben bir kediyim", "tr", True),
        ("ฉันเป็นแมว", "th", True),
        ("நான் ஒரு பூனை", "ta", True),
        ("나는 고양이다", "ko", True),
        ("half половина и", "ru", True),
        ("123 ...", "fr", False),
        ("anything", "tlh", None),
    ],
)
def test_whether_a_text_is_in_the_script_of_a_language(text: str, language: str, expected: bool | None) -> None:
    assert is_in_script_of(text, language) is expected


def test_letters_are_counted_by_script() -> None:
    assert letters_by_script("abc яю 猫 ꦗ 12!") == {"Latin": 3, "Cyrillic": 2, "Han": 1, "Other": 1}
