"""Contents of a neuron set's `metadata.json`: everything about the set except its arrays."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import UnionType
from typing import Any, Self

from ampsweep.domain.neurons.layer_widths import LayerWidths, Width

FORMAT = 1
"""Version of the files of a neuron set that this release writes and reads."""

_TYPES: Mapping[str, UnionType | type] = {
    **dict.fromkeys(("id", "model", "fingerprint", "method", "corpus", "corpus_hash", "sha256"), str),
    **dict.fromkeys(("format", "layers"), int),
    **dict.fromkeys(("params", "languages"), dict),
    "width": int | list,
    "patch": list,
}
"""Types in the JSON of the values that every set has."""
_WORDS: Mapping[object, str] = {
    str: "a text",
    int: "a whole number",
    dict: "an object",
    int | list: "a whole number or a list",
    list: "a list",
}


@dataclass(frozen=True, kw_only=True)
class NeuronSetMetadata:
    """Metadata of a neuron set.

    Attributes:
        format: Version of the set's files.
        id: Id of the set.
        model: Name of the model.
        fingerprint: Fingerprint of the model's files.
        layers: Number of layers of the model.
        width: Number of neurons of a layer; in the JSON a list with one number for each layer where layers differ.
        method: The method that selected the neurons, or the kind of import.
        params: Parameters of the method.
        corpus: Name of the corpus; empty for an imported set.
        corpus_hash: Hash of the corpus; empty for an imported set.
        languages: Number of neurons of each language.
        patch: The kinds of patch values that the set has.
        sha256: SHA-256 of the file with the arrays.
        entropy: Whether the set has LAPE's entropy of each neuron; sets of earlier versions have none.
        residual: `mean` if the set has mean residuals, else empty. The JSON has it only where it is not empty, so that
            ids that are hashes of the content stay valid.
    """

    format: int = FORMAT
    id: str
    model: str
    fingerprint: str
    layers: int
    width: Width
    method: str
    params: Mapping[str, Any]
    corpus: str
    corpus_hash: str
    languages: Mapping[str, int]
    patch: tuple[str, ...]
    sha256: str
    entropy: bool = False
    residual: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str | bytes) -> Self:
        """Parse the contents of a `metadata.json`. Unknown keys are ignored.

        Raises:
            KeyError: A key is missing.
            ValueError: The text is not JSON, which has no NaN and no infinite numbers, or the layers and their widths
                do not fit together.
            TypeError: The text is not a JSON object, or a value has another type.
        """
        try:
            raw = json.loads(text, parse_constant=_no_constant)
        except RecursionError:
            raise ValueError("it is nested too deeply") from None
        values = {field.name: raw[field.name] for field in fields(cls) if field.name not in ("entropy", "residual")}
        for name, value in values.items():
            if not isinstance(value, _TYPES[name]) or isinstance(value, bool):
                raise TypeError(f"{name} must be {_WORDS[_TYPES[name]]}; got {value!r:.100}")
        if not all(isinstance(count, int) for count in values["languages"].values()):
            raise TypeError("languages must have the number of neurons of each language")
        if not all(isinstance(kind, str) for kind in (*values["patch"], *raw.get("residual", ()))):
            raise TypeError("patch and residual must be lists of names")
        return cls(
            **{
                **values,
                "width": LayerWidths.parse(values["layers"], values["width"]).width,
                "patch": tuple(values["patch"]),
                "entropy": bool(raw.get("entropy")),
                "residual": tuple(raw.get("residual", ())),
            }
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the metadata as a JSON object."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        if not self.entropy:  # a key added later: left out, so that the ids of imported sets stay valid
            del values["entropy"]
        residual = list(values.pop("residual"))
        return {
            **values,
            "width": self.width if isinstance(self.width, int) else list(self.width),
            **({"residual": residual} if residual else {}),
            "params": dict(self.params),
            "languages": dict(self.languages),
            "patch": list(self.patch),
        }

    def to_json(self) -> str:
        """Return the contents of a `metadata.json`."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n"


def _no_constant(name: str) -> float:
    raise ValueError(f"it has the number {name}, which JSON does not have")
