from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from ampsweep.domain.languages.identifier import UNKNOWN, Identification, has_letters
from ampsweep.errors import InvalidRequest, UnknownName
from jobs.language_control import identifiers
from jobs.language_control.identifiers import open_identifier, require_languages

SENTENCES = {
    "fr": "Le chat dort sur le canapé depuis ce matin.",
    "tr": "Kedi sabahtan beri kanepede uyuyor.",
    "ja": "猫は朝からソファで寝ています。",
    "ru": "Кошка с самого утра спит на этом старом диване, и никто её не будит.",
    "th": "แมวนอนอยู่บนโซฟาตั้งแต่เช้า",
}


needs_lingua = pytest.mark.skipif(find_spec("lingua") is None, reason="lingua-language-detector is not installed")


@pytest.mark.parametrize("choice", ["py3langid", "lid.176", "lid.176.ftz", pytest.param("lingua", marks=needs_lingua)])
def test_the_language_of_a_sentence(choice: str) -> None:
    identifier = open_identifier(choice)
    for language, sentence in SENTENCES.items():
        identification = identifier.identify(sentence)
        assert identification.language == language
        assert 0.3 < identification.confidence <= 1.001
    assert set(SENTENCES) <= identifier.languages


@pytest.mark.parametrize("choice", ["py3langid", "lid.176.ftz"])
def test_a_line_break_counts_as_a_space(choice: str) -> None:
    identifier = open_identifier(choice)
    assert identifier.identify("Le chat dort\nsur le canapé").language == "fr"


@pytest.mark.parametrize("text", ["", " \n", "123 !!!", "🙂 👍", "١٢٣ ٤٥٦", "。、"])
@pytest.mark.parametrize("choice", ["py3langid", pytest.param("lingua", marks=needs_lingua)])
def test_a_text_without_letters_is_in_no_language(choice: str, text: str) -> None:
    assert not has_letters(text)
    assert open_identifier(choice).identify(text) == UNKNOWN


def test_the_identity_names_the_version_or_the_file_and_its_hash() -> None:
    assert open_identifier("py3langid").identity.startswith("py3langid 0.")
    assert open_identifier("lid.176").identity == open_identifier("lid.176.ftz").identity
    assert open_identifier("lid.176").identity == "lid.176.ftz sha256:8f3472cfe873"


def test_a_model_file_takes_precedence_over_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packaged = identifiers._packaged_fasttext()
    assert isinstance(packaged, identifiers.FastTextIdentifier)
    copy = tmp_path / "mine.ftz"
    copy.write_bytes(packaged._path.read_bytes())
    assert open_identifier(str(copy)).identify(SENTENCES["fr"]).language == "fr"
    assert open_identifier(str(copy)).identity.startswith("mine.ftz sha256:")


class Labels:
    def predict(self, text: str, **_options: object) -> tuple[tuple[str, ...], tuple[float, ...]]:
        assert "\n" not in text
        return ("__label__zsm_Latn", "__label__zho_Hant"), (0.5, 0.25)


def test_labels_with_a_script_are_read_as_codes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fasttext.load_model", lambda _path: Labels())
    identifier = identifiers.FastTextIdentifier(tmp_path / "lid218e.bin")
    assert identifier.languages == {"ms", "zho_Hant"}
    assert identifier.identify("a\nb") == Identification("ms", 0.5)


def test_what_cannot_be_opened_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnknownName, match=r"'langdetect'.*py3langid"):
        open_identifier("langdetect")
    with pytest.raises(InvalidRequest, match=r"there is no file gone.bin"):
        open_identifier("gone.bin")
    damaged = tmp_path / "damaged.bin"
    damaged.write_bytes(b"not a model")
    with pytest.raises(InvalidRequest, match=r"damaged.bin cannot be read as a fastText model"):
        open_identifier(str(damaged))
    monkeypatch.setattr(identifiers, "find_spec", lambda _name: None)
    with pytest.raises(InvalidRequest, match=r"needs lingua-language-detector.*pip install"):
        open_identifier("lingua")


def test_a_language_that_cannot_be_identified_is_refused() -> None:
    with pytest.raises(InvalidRequest, match=r"py3langid .* does not know xx"):
        require_languages(open_identifier("py3langid"), {"fr", "xx"})
