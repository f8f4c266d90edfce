"""What `ampsweep capture` is asked to capture: the texts of a file, and how."""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from ampsweep.documents import foreign_encoding
from ampsweep.errors import InvalidRequest
from ampsweep.folders.text import MAX_LINE, reject_foreign

if TYPE_CHECKING:
    from ampsweep.domain.capture import CapturedText, CaptureSelection
    from ampsweep.domain.choices import CaptureDtype
    from ampsweep.domain.intervention import Intervention


@dataclass(frozen=True, kw_only=True)
class SourceText:
    """A text of the file.

    Attributes:
        line: Number of its line, from 1, which is its id unless it has one.
        text: The text.
        fields: The same as in a request to a server.
    """

    line: int
    text: CapturedText
    fields: Mapping[str, Any]

    @property
    def param(self) -> str:
        """What errors call the text."""
        return f"TEXTS.{self.line}"


@dataclass(frozen=True, kw_only=True)
class CaptureJob:
    """What is captured, of which texts, and how it is stored.

    Attributes:
        texts: The texts, at least one.
        selection: The neurons.
        intervention: What steers the model, None for nothing.
        adapter: The LoRA adapter, None for the model alone.
        dtype: How activations are stored.
    """

    texts: Sequence[SourceText]
    selection: CaptureSelection
    intervention: Intervention | None
    adapter: str | None
    dtype: CaptureDtype


def read_texts(source: Path) -> list[SourceText]:
    """Return the texts of a file: its lines that are not blank, or the objects of a file of JSON lines.

    A byte order mark at the start of the file is skipped.

    Raises:
        InvalidRequest: A line is not a text in UTF-8 or not such an object (param "TEXTS" and the number of the line),
            there is none, or the suffix is `.json`.
    """
    suffix = source.suffix.lower()
    if suffix == ".json":
        message = f"{source} may be one document; give a file with an object in each line and the suffix .jsonl"
        raise InvalidRequest(message, param="TEXTS")
    read = _read_object if suffix in (".jsonl", ".ndjson") else _read_text
    with source.open("rb") as file:
        texts = [read(number, line) for number, line in _lines(file) if line.strip()]
    if not texts:
        raise InvalidRequest(f"{source} has no text", param="TEXTS")
    return texts


def _lines(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    for number, line in enumerate(iter(lambda: file.readline(MAX_LINE), b""), 1):
        if len(line) == MAX_LINE:
            raise InvalidRequest("has 64 MiB or more; give a shorter text", param=f"TEXTS.{number}")
        yield number, line.removeprefix(codecs.BOM_UTF8) if number == 1 else line


def _read_text(number: int, line: bytes) -> SourceText:
    from ampsweep.domain.capture import CapturedText

    param = f"TEXTS.{number}"
    try:
        prompt = line.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        reason = foreign_encoding(line) or error.reason
        message = f"{param} is not UTF-8: {reason}; save the file in UTF-8"
        raise InvalidRequest(message, param=param) from error
    reject_foreign(prompt, place=param, param=param)
    name = str(number)
    return SourceText(line=number, text=CapturedText(id=name, prompt=prompt), fields={"id": name, "prompt": prompt})


def _read_object(number: int, line: bytes) -> SourceText:
    from ampsweep.domain.validation import validate
    from api.http.json_body import parse_json
    from api.openai.captured_text import TextToCapture

    param = f"TEXTS.{number}"
    if foreign := foreign_encoding(line):
        raise InvalidRequest(f"{param} is not UTF-8: {foreign}; save the file in UTF-8", param=param)
    try:
        raw = parse_json(line)
    except InvalidRequest as error:
        message = error.message.replace("the body", "the line", 1)
        raise InvalidRequest(f"{param}: {message}", param=param) from error
    text = validate(TextToCapture, raw, param=param).captured(number)
    assert isinstance(raw, dict), "validated"
    return SourceText(line=number, text=text, fields={**raw, "id": text.id})
