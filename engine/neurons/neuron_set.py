"""A neuron set: the neurons of each language, and where they come from.

A neuron set is immutable and named by its id. On disk it is a folder with `neurons.safetensors` (the arrays) and
`metadata.json` (everything else, readable without this package). It does not know engines.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from ampsweep.domain.choices import RECORDED_PATCHES, Patch, RecordedPatch
from ampsweep.domain.languages.codes import with_short_codes
from ampsweep.domain.neurons.layer_widths import LayerWidths, Width
from ampsweep.domain.neurons.neuron_set import METADATA_FILE, TENSORS_FILE
from ampsweep.domain.neurons.neuron_set_metadata import FORMAT, NeuronSetMetadata
from ampsweep.errors import DamagedFile, InvalidRequest, NotFound
from ampsweep.files import atomic_write
from ampsweep.hashing import content_hash, file_hash
from ampsweep.missing_path import no_folder
from engine.neurons.numbering import numbers_of, outside, pairs_of
from engine.neurons.safetensors_writer import save_tensors

_RESIDUAL = "residual.mean"


@dataclass(frozen=True, kw_only=True, eq=False)
class PatchValues:
    """Typical activations of each neuron in each of G languages; see `ActivationStats`.

    Each is float32 [G, L, F], or [G, N] over the N neurons of all layers where layers differ in width.
    Maximum and median are None where only means are known, as in sets with imported activations.
    """

    mean: NDArray[np.float32]
    max: NDArray[np.float32] | None = None
    median: NDArray[np.float32] | None = None

    def of(self, kind: RecordedPatch) -> NDArray[np.float32] | None:
        """Return the values of one kind; None if they are not known."""
        values: NDArray[np.float32] | None = getattr(self, kind)
        return values

    def of_neurons(
        self, kind: Patch, languages: Sequence[int], neurons: NDArray[np.int64]
    ) -> NDArray[np.float32] | None:
        """Return the values of some neurons in some languages, float32 [languages, neurons]; None if not known.

        `difference` is the mean in a language minus the mean of the means in all others, with G at least 2.

        Args:
            kind: The kind of the values.
            languages: Their places on the axis G.
            neurons: Numbers of the neurons, counted through all layers.
        """
        if (all_values := self.of("mean" if kind == "difference" else kind)) is None:
            return None
        values = np.take(all_values.reshape(len(all_values), -1), neurons, axis=1)
        if kind == "difference":
            others = (values.sum(axis=0, dtype=np.float64) - values) / (len(values) - 1)
            values = (values - others).astype(np.float32)
        return values[list(languages)]


@dataclass(frozen=True, kw_only=True, eq=False)
class NeuronSet:
    """The neurons of each of G languages in a model of `layers` layers with `width` neurons each; see `LayerWidths`.

    Attributes:
        id: The id.
        model: Name of the model.
        fingerprint: Fingerprint of the model's files.
        layers: Number of layers.
        width: Number of neurons of a layer, or a tuple with one number for each layer where layers differ.
        method: The method that selected the neurons.
        neurons: The neurons of each language, int32 [k, 2] of (layer, index), sorted, without duplicates. Every
            language has an entry, even without neurons.
        params: Parameters of the method.
        corpus: Name of the corpus; empty for an imported set.
        corpus_hash: Hash of the corpus; empty for an imported set.
        patch: Patch values, whose axis G has the order of `neurons`; None for a set that was imported without them.
        entropy: LAPE's entropy of each neuron over the languages, float32 in nats of the shape `widths.shape`;
            NaN where the neuron is not a candidate of LAPE. None for an imported set, and for sets of versions that did
            not store it.
        residual_mean: Mean residual at each layer's output in each language, float32 [G, layers, H], whose axis G has
            the order of `neurons`; None for an imported set, and for one that was identified before it was recorded.

    Raises:
        InvalidRequest: Neurons are out of range, duplicate or unsorted, an array has a wrong shape, or a patch value or
            mean residual is infinite or NaN.

    Example:
        >>> neuron_set = NeuronSet.load(Path("neurons"))  # the folder that `ampsweep identify` wrote
        >>> neuron_set.languages
        ('en', 'fr', 'tr')
        >>> layers, indices = neuron_set.neurons["fr"].T
    """

    id: str
    model: str
    fingerprint: str
    layers: int
    width: Width
    method: str
    neurons: Mapping[str, NDArray[np.int32]]
    params: Mapping[str, Any] = field(default_factory=dict)
    corpus: str = ""
    corpus_hash: str = ""
    patch: PatchValues | None = None
    entropy: NDArray[np.float32] | None = None
    residual_mean: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        """Check the invariants, so that users of a set need not."""
        if not self.neurons:
            raise InvalidRequest("a neuron set needs at least one language", param="neurons")
        for language, pairs in self.neurons.items():
            _check_neurons(language, pairs, self.widths)
        shape = (len(self.neurons), *self.widths.shape)
        for kind, values in self._patches().items():
            if values.shape != shape or values.dtype != np.float32:
                raise InvalidRequest(f"patch values must be float32 {shape}", param=f"patch.{kind}")
            self._check_finite(f"patch.{kind}", values.reshape(shape[0], -1), self.widths)
        if self.entropy is not None and (self.entropy.shape != shape[1:] or self.entropy.dtype != np.float32):
            raise InvalidRequest(f"entropies must be float32 {shape[1:]}", param="entropy")
        if (residual := self.residual_mean) is not None and (
            residual.ndim != 3 or residual.shape[:2] != (shape[0], self.layers) or residual.dtype != np.float32
        ):
            message = f"mean residuals must be float32 [{shape[0]}, {self.layers}, H]"
            raise InvalidRequest(f"{message}; got {residual.dtype} {list(residual.shape)}", param="residual_mean")
        if residual is not None:
            widths = LayerWidths(self.layers, residual.shape[2])
            self._check_finite("residual_mean", residual.reshape(shape[0], -1), widths, of="dimension")

    def _check_finite(self, param: str, values: NDArray[np.float32], widths: LayerWidths, of: str = "neuron") -> None:
        """Raise InvalidRequest if a value, [G, N], is infinite or NaN: answers steered with it would mean nothing."""
        if (finite := np.isfinite(values)).all():
            return
        place, number = np.argwhere(~finite)[0].tolist()
        ((layer, index),) = pairs_of(np.array([number]), widths).tolist()
        raise InvalidRequest(
            f"{param} must have finite numbers; got {values[place, number]} for {of} {index} of layer {layer} in "
            f"{self.languages[place]}. Identify the set again, in a dtype that can hold the model's activations, such "
            "as bfloat16",
            param=param,
        )

    @property
    def widths(self) -> LayerWidths:
        """The neurons of each layer."""
        return LayerWidths(self.layers, self.width)

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages, in the order of the patch values' first axis."""
        return tuple(self.neurons)

    def with_content_id(self) -> NeuronSet:
        """Return the same set, named by a hash of everything in it but the names of model and corpus."""
        content = self.metadata(sha256="").to_dict()
        for name in ("id", "model", "corpus", "sha256"):
            content.pop(name)
        content["neurons"] = {code: pairs.tolist() for code, pairs in self.neurons.items()}
        for kind, values in self._patches().items():
            content[f"patch.{kind}"] = _digest(values)
        if self.entropy is not None:
            content["entropy"] = _digest(self.entropy)
        if self.residual_mean is not None:
            content[_RESIDUAL] = _digest(self.residual_mean)
        return replace(self, id=f"ns_{content_hash(content)}")

    def metadata(self, *, sha256: str) -> NeuronSetMetadata:
        """Return the metadata of the set.

        Args:
            sha256: SHA-256 of the file with the set's arrays.
        """
        return NeuronSetMetadata(
            id=self.id,
            model=self.model,
            fingerprint=self.fingerprint,
            layers=self.layers,
            width=self.width,
            method=self.method,
            params=self.params,
            corpus=self.corpus,
            corpus_hash=self.corpus_hash,
            languages={code: len(pairs) for code, pairs in self.neurons.items()},
            patch=tuple(self._patches()),
            residual=() if self.residual_mean is None else ("mean",),
            sha256=sha256,
            entropy=self.entropy is not None,
        )

    def _patches(self) -> dict[RecordedPatch, NDArray[np.float32]]:
        if self.patch is None:
            return {}
        values = {kind: self.patch.of(kind) for kind in RECORDED_PATCHES}
        return {kind: array for kind, array in values.items() if array is not None}

    def check_widths(self, widths: LayerWidths, *, model: str) -> None:
        """Raise InvalidRequest where a `model` has another number of layers or of neurons of a layer."""
        if self.widths != widths:
            raise InvalidRequest(
                f"neuron set {self.id} is for {self.widths} ({self.model}); {model} has {widths}; use a set of this "
                "model (`ampsweep identify` makes one), or the model of the set",
                param="neurons",
            )

    def save(self, folder: Path) -> None:
        """Write the set to `folder`, which is created if it does not exist; each file appears whole or not at all."""
        folder.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, NDArray[Any]] = {f"neurons.{code}": pairs for code, pairs in self.neurons.items()}
        arrays |= {f"patch.{kind}": values for kind, values in self._patches().items()}
        if self.entropy is not None:
            arrays["entropy"] = self.entropy
        if self.residual_mean is not None:
            arrays[_RESIDUAL] = self.residual_mean
        with atomic_write(folder / TENSORS_FILE) as path:
            save_tensors(arrays, path)
            digest = file_hash(path)
        with atomic_write(folder / METADATA_FILE) as path:
            path.write_text(self.metadata(sha256=digest).to_json(), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> NeuronSet:
        """Read a set from a folder. Its languages are renamed by `short_code`, whatever codes it was saved with.

        Raises:
            NotFound: The folder has no neuron set.
            DamagedFile: A file cannot be read, or is not the one that was saved.
            InvalidRequest: The set has another format, or its content is invalid.
        """
        if not folder.is_dir():
            raise NotFound(f"{no_folder(folder)}; `ampsweep identify` writes neuron sets", param="neurons")
        if not (folder / METADATA_FILE).is_file():
            remedy = "give a folder that `ampsweep identify` or `ampsweep neurons import` wrote"
            raise NotFound(f"no neuron set in {folder}: {METADATA_FILE} is missing; {remedy}", param="neurons")
        try:
            metadata = NeuronSetMetadata.parse((folder / METADATA_FILE).read_bytes())
            if metadata.format != FORMAT:
                raise InvalidRequest(f"it has format {metadata.format}; this version reads {FORMAT}", param="neurons")
            if file_hash(folder / TENSORS_FILE) != metadata.sha256:
                raise DamagedFile(f"{folder / TENSORS_FILE} does not have the hash that {METADATA_FILE} gives")
            arrays = load_file(folder / TENSORS_FILE)
            patch = {kind: arrays[f"patch.{kind}"] for kind in metadata.patch}
            return cls(
                id=metadata.id,
                model=metadata.model,
                fingerprint=metadata.fingerprint,
                layers=metadata.layers,
                width=metadata.width,
                method=metadata.method,
                params=metadata.params,
                corpus=metadata.corpus,
                corpus_hash=metadata.corpus_hash,
                neurons=with_short_codes({code: arrays[f"neurons.{code}"] for code in metadata.languages}),
                patch=PatchValues(**patch) if patch else None,
                entropy=arrays["entropy"] if metadata.entropy else None,
                residual_mean=arrays[_RESIDUAL] if metadata.residual else None,
            )
        except InvalidRequest as error:
            raise InvalidRequest(f"neuron set {folder}: {error.message}", param=error.param) from error
        except (ValueError, KeyError, TypeError, OSError, SafetensorError) as error:
            reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise DamagedFile(f"neuron set {folder} cannot be read: {reason}; copy or identify it again") from error


def _digest(values: NDArray[np.float32]) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).data).hexdigest()


def _check_neurons(language: str, pairs: NDArray[np.int32], widths: LayerWidths) -> None:
    param = f"neurons.{language}"
    if pairs.dtype != np.int32 or pairs.ndim != 2 or pairs.shape[1] != 2:
        raise InvalidRequest(f"{param} must be int32 [k, 2] of (layer, index)", param=param)
    if (beyond := outside(pairs, widths)).any():
        layer, index = pairs[beyond][0].tolist()
        raise InvalidRequest(f"{param}: neuron {index} of layer {layer} is outside {widths}", param=param)
    steps = np.diff(numbers_of(pairs, widths))
    if (steps <= 0).any():
        row = int(np.argmax(steps <= 0)) + 1
        layer, index = pairs[row].tolist()
        raise InvalidRequest(f"{param}: neuron {index} of layer {layer} is a duplicate or out of order", param=param)
