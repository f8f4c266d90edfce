"""`ampsweep neurons overlap`: the neurons that two sets, or the languages of one set, have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ampsweep.cli.options.client import Server
from ampsweep.cli.options.neuron_source import fetched_set, local_set
from ampsweep.cli.terminal.output import AsJson, show, warn
from ampsweep.client.environment import DEFAULT_URL
from ampsweep.domain.neurons.layer_widths import LayerWidths
from ampsweep.errors import InvalidRequest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from engine.neurons.overlap import Overlap

_ANY = 2**31 - 1
"""Layers, and neurons of a layer, of a model of unknown widths: the largest number that int32 holds."""

SetArgument = Annotated[
    str,
    typer.Argument(
        help="A neuron set: its folder, a JSON file {language: {layer: [index, ...]}}, a table (CSV), or an id."
    ),
]


OtherArgument = Annotated[
    str | None,
    typer.Argument(help="Another set, given likewise. Without it, the languages of A are compared with each other."),
]


@dataclass(frozen=True, kw_only=True, eq=False)
class ComparedSet:
    """A set that is compared.

    Attributes:
        id: Id of the set; the name of the file if it is JSON or a table.
        model: Name of its model; None if the file does not say.
        widths: The neurons of each layer of its model; None if the file does not say.
        neurons: The neurons of each language, int32 [k, 2] of (layer, index).
    """

    id: str
    model: str | None
    widths: LayerWidths | None
    neurons: Mapping[str, NDArray[np.int32]]

    @property
    def layers(self) -> int:
        """The number of layers; if it is unknown, that of the layers up to the last one with neurons."""
        if self.widths is not None:
            return self.widths.layers
        return max((int(pairs[:, 0].max()) + 1 for pairs in self.neurons.values() if len(pairs)), default=0)


def overlap(a: SetArgument, b: OtherArgument = None, server: Server = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Compare two neuron sets language by language, or the languages of one set, by the Jaccard index of their neurons.

    The index is the number of neurons in both divided by the number of neurons in either; of two sets it is also given
    by layer. An id is looked up in the home folder, then on the server.
    """
    first = _read(a, server, param="a")
    if b is None:
        _show_languages(first, as_json=as_json)
    else:
        _show_sets(first, _read(b, server, param="b"), as_json=as_json)


def _show_languages(compared: ComparedSet, *, as_json: bool) -> None:
    """Print the Jaccard index of each pair of languages of one set."""
    from engine.neurons.overlap import overlap_of_languages

    codes = list(compared.neurons)
    if len(codes) < 2:
        raise InvalidRequest(f"{compared.id} has only one language; give a second set to compare it with", param="a")
    pairs = overlap_of_languages(compared.neurons, layers=compared.layers)
    content = {
        "a": {"id": compared.id, "model": compared.model},
        "neurons": {code: len(compared.neurons[code]) for code in codes},
        "pairs": [{"languages": list(languages), **_counts(overlap)} for languages, overlap in pairs.items()],
    }
    lines = [f"{'':<8} {'neurons':>7}" + "".join(f" {code:>8}" for code in codes[:-1])]
    for row, code in enumerate(codes):
        indices = "".join(f" {_index(pairs[other, code]):>8}" for other in codes[:row])
        lines.append(f"{code:<8} {len(compared.neurons[code]):>7}{indices}")
    show(content, "\n".join([compared.id, *lines]), as_json=as_json)


def _show_sets(first: ComparedSet, second: ComparedSet, *, as_json: bool) -> None:
    """Print the Jaccard index of two sets for each language that both have."""
    from engine.neurons.overlap import all_neurons, overlap_by_language
    from engine.neurons.overlap import overlap as overlap_of

    _check_widths(first, second)
    layers = max(first.layers, second.layers)
    overlaps = overlap_by_language(first.neurons, second.neurons, layers=layers)
    if not overlaps:
        languages = "; ".join(f"{compared.id} has {', '.join(compared.neurons)}" for compared in (first, second))
        raise InvalidRequest(f"the sets have no language in common: {languages}", param="b")
    only = {
        "a": [code for code in first.neurons if code not in overlaps],
        "b": [code for code in second.neurons if code not in overlaps],
    }
    warn(f"only {name} has {', '.join(codes)}" for name, codes in only.items() if codes)
    shared = [all_neurons({code: compared.neurons[code] for code in overlaps}) for compared in (first, second)]
    total = overlap_of(*shared, layers=layers)
    content = {
        "a": {"id": first.id, "model": first.model},
        "b": {"id": second.id, "model": second.model},
        "languages": {language: _content(overlap) for language, overlap in overlaps.items()},
        "all": _content(total),
        "only_a": only["a"],
        "only_b": only["b"],
    }
    heading = f"{'':<8} {'a':>7} {'b':>7} {'both':>7} {'jaccard':>8}   by layer"
    lines = [_line(language, overlap) for language, overlap in {**overlaps, "all": total}.items()]
    show(content, "\n".join([f"a: {first.id}", f"b: {second.id}", heading, *lines]), as_json=as_json)


def _check_widths(first: ComparedSet, second: ComparedSet) -> None:
    """Raise InvalidRequest for sets of models of different shape, and for a JSON file that does not fit the other."""
    from engine.neurons.numbering import outside

    if first.widths and second.widths and first.widths != second.widths:
        message = f"the sets were made for models of different shape: {first.widths} and {second.widths}"
        raise InvalidRequest(message, param="b")
    widths = first.widths or second.widths
    for compared, param in ((first, "a"), (second, "b")):
        if widths is not None and any(outside(pairs, widths).any() for pairs in compared.neurons.values()):
            message = f"{compared.id} has neurons outside {widths}; it was made for another model"
            raise InvalidRequest(message, param=param)


def _content(overlap: Overlap) -> dict[str, Any]:
    return {"a": overlap.a, "b": overlap.b, **_counts(overlap), "by_layer": list(overlap.by_layer)}


def _counts(overlap: Overlap) -> dict[str, Any]:
    return {"both": overlap.shared, "jaccard": overlap.jaccard}


def _line(name: str, overlap: Overlap) -> str:
    by_layer = " ".join("-" if index is None else f"{index:.2f}" for index in overlap.by_layer)
    return f"{name:<8} {overlap.a:>7} {overlap.b:>7} {overlap.shared:>7} {_index(overlap):>8}   {by_layer}"


def _index(overlap: Overlap) -> str:
    return "-" if overlap.jaccard is None else f"{overlap.jaccard:.3f}"


def _read(name: str, server: str, *, param: str) -> ComparedSet:
    """Return a set from a file, a folder, the home folder or a server."""
    from engine.neurons.neuron_set import NeuronSet

    path = Path(name)
    if path.is_file():
        return _read_file(path, param=param)
    with local_set(name, param=param) as folder:
        neuron_set = None if folder is None else NeuronSet.load(folder)
    if neuron_set is None:
        return _fetch(name, server, param=param)
    return ComparedSet(id=neuron_set.id, model=neuron_set.model, widths=neuron_set.widths, neurons=neuron_set.neurons)


def _read_file(path: Path, *, param: str) -> ComparedSet:
    from engine.neurons.formats.neuron_text import read_text

    raw = read_text(path, param=param, otherwise=" (convert it with `ampsweep neurons import`)")
    return ComparedSet(id=path.name, model=None, widths=None, neurons=_pairs(raw, name=path.name))


def _pairs(raw: object, *, name: str) -> Mapping[str, NDArray[np.int32]]:
    """Return the neurons of a JSON object, for a model of any shape."""
    from ampsweep.folders.model import ModelFolder
    from engine.neurons.formats.neuron_json import read_neurons

    return read_neurons(raw, model=ModelFolder(name=name, fingerprint="", layers=_ANY, width=_ANY))


def _fetch(neuron_set_id: str, server: str, *, param: str) -> ComparedSet:
    neuron_set = fetched_set(neuron_set_id, server, param=param)
    return ComparedSet(
        id=neuron_set_id,
        model=neuron_set["model"],
        widths=LayerWidths.parse(neuron_set["layers"], neuron_set["width"]),
        neurons=_pairs(neuron_set["neurons"], name=neuron_set_id),
    )
