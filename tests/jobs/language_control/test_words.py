from __future__ import annotations

import pytest

from ampsweep.errors import InvalidRequest
from jobs.language_control import words
from jobs.language_control.words import require_word_splitter, tokenizer_name, word_splitter


def test_words_of_languages_with_and_without_spaces() -> None:
    assert word_splitter("fr")("un  deux\ttrois") == ["un", "deux", "trois"]
    assert word_splitter("zh")("我来到北京清华大学") == ["我", "来到", "北京", "清华大学"]
    assert word_splitter("ja")("すもももももももものうち") == ["すもも", "も", "もも", "も", "もも", "の", "うち"]


def test_tokenizers_are_named_with_their_versions() -> None:
    assert tokenizer_name("fr") == "white space"
    assert tokenizer_name("zh") == "jieba 0.42.1"
    assert tokenizer_name("ja").startswith("fugashi 1.")
    assert tokenizer_name("ja").endswith("with unidic-lite 1.0.8")


@pytest.mark.parametrize("language", ["zh", "ja"])
def test_a_package_that_is_missing_is_named(language: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "find_spec", lambda _name: None)
    word_splitter.cache_clear()
    with pytest.raises(InvalidRequest, match=r"into words needs .*; run: pip install"):
        word_splitter(language)
    with pytest.raises(InvalidRequest, match=r"splitting (Chinese|Japanese) into words needs"):
        require_word_splitter(language)
    require_word_splitter("fr")
