from __future__ import annotations

import pytest

from jobs.language_control.scripts import is_in_script_of


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
        ("Ja sam mačka", "sr-Latn", True),
        ("Ја сам мачка", "sr-Latn", False),
        ("Ја сам мачка", "sr", True),
        ("我是一隻貓", "zh-Hant", True),
        ("我是一隻貓", "zh_hant_TW", True),
        ("我是一隻貓", "zh-TW", True),
        ("我是一隻貓", "cmn_Hani", True),
        ("나는 고양이다", "kor_Kore", True),
        ("Eu sou um gato", "pt-BR", True),
        ("Eu sou um gato", "pt_BR", True),
        ("Я кот", "pt-BR", False),
    ],
)
def test_whether_a_text_is_in_the_script_of_a_language(text: str, language: str, expected: bool | None) -> None:
    assert is_in_script_of(text, language) is expected


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("аб ab c", "ru", False),
        ("абв ab", "ru", True),
        ("аб ab", "ru", False),  # half of the letters
        ("猫 ab 12 ꦗ!", "zh", False),  # one of four letters; a letter of a script that no language here has counts
        ("猫猫 ꦗ 123456", "zh", True),
        ("ก้่๊๋ ab", "th", False),  # tone marks are no letters
        ("قطة 123", "ar", True),
        ("", "fr", False),
    ],
)
def test_letters_alone_are_counted(text: str, language: str, expected: bool) -> None:
    assert is_in_script_of(text, language) is expected
