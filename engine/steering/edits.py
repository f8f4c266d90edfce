"""Resolution of an intervention on a neuron set: which activations change, and how. NumPy only.

Every op is the same affine arithmetic, a' = mult * a + add + coef * statistic. (mult, add, coef) of scale f is
(f, 0, 0), of add v (1, v, 0), of set v (0, v, 0); if v is f times a statistic, f is the coefficient instead. A weighted
op, a + w * (op(a) - a), is affine too. The engine decides to which tokens an edit applies (the scope) and computes each
token's statistic.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import fmean
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from ampsweep.domain.choices import Op, Patch
from ampsweep.domain.intervention import Intervention, NonTarget
from ampsweep.domain.languages.unknown import unknown_language
from ampsweep.domain.statistic import Statistic
from ampsweep.errors import InvalidRequest, NoNeurons
from engine.neurons.neuron_set import NeuronSet
from engine.neurons.numbering import layers_of, numbers_of, outside, pairs_of
from engine.neurons.random_selection import draw_neurons
from engine.steering.vectors import resolve_vectors


@dataclass(frozen=True, kw_only=True, eq=False)
class Edits:
    """The changed neurons of L layers, as compressed rows.

    Layer l has the entries offsets[l]:offsets[l + 1] of `indices` (int32, ascending inside a layer, no duplicates),
    `mult`, `add` and, where there is a `statistic`, `coef` (float32), meaning a' = mult * a + add + coef * s. Here s is
    the statistic of the token's activations in that layer before any intervention. `offsets` is int64 [L + 1].

    With `whole_pass` s is the statistic of all tokens that are computed in one forward pass, together, as in the
    published code (tauimbz/lang-task-neuron, `intervention_tasks.py`); its `mad` is the median distance of the changed
    neurons' activations to the median of all.

    `vectors`, float32 [L, H], are added to the residual stream at the output of each layer. An intervention that has
    them changes no neurons.
    """

    offsets: NDArray[np.int64]
    indices: NDArray[np.int32]
    mult: NDArray[np.float32]
    add: NDArray[np.float32]
    statistic: Statistic | None = None
    coef: NDArray[np.float32] | None = None
    whole_pass: bool = False
    vectors: NDArray[np.float32] | None = None

    def entries(self, layer: int) -> slice:
        """Return the slice of one layer's entries."""
        return slice(int(self.offsets[layer]), int(self.offsets[layer + 1]))


def resolve(intervention: Intervention, neuron_set: NeuronSet) -> Edits:
    """Return which neurons the intervention changes, and how.

    Several languages are taken together. For a neuron that belongs to a target language and to that of `source` or one
    of the others of `non_target`, the target's op wins, then that of `source`. As many random neurons are drawn in a
    layer as the languages have there together; which ones depends only on the neuron set, the languages and the seed,
    so that all factors of a sweep have the same control. The neurons of an `other` language are edited as if it were
    the target, with its own patch values and the mean of the languages' weights.

    Args:
        intervention: A valid intervention.
        neuron_set: The neurons of each language, with their patch values if they were recorded.

    Raises:
        UnknownName: The set has no such language.
        InvalidRequest: The model has no such layer, or the set has no patch values.
    """
    _check_names(intervention, neuron_set)
    if intervention.other is not None:
        weights = intervention.weights and (fmean(intervention.weights),)
        intervention = replace(
            intervention, languages=(intervention.other,), weights=weights, selection=None, other=None
        )
    if intervention.vector is not None:
        return _without_neurons(neuron_set.layers, resolve_vectors(intervention, neuron_set))
    flat = _target(intervention, neuron_set)
    weight, magnitude = _magnitude(intervention, neuron_set, flat)
    mult, value = _affine(intervention.op, weight, magnitude)
    zeros = np.zeros_like(value)
    add, coef = (value, zeros) if intervention.statistic is None else (zeros, value)
    for languages, further in _further_ops(intervention, neuron_set):
        rest = np.setdiff1d(_union(neuron_set, languages), flat, assume_unique=True)
        magnitude = np.full(len(rest), further.factor)
        rest_mult, rest_add = _affine(further.op, np.ones_like(magnitude), magnitude)
        flat, mult, add = np.append(flat, rest), np.append(mult, rest_mult), np.append(add, rest_add)
        coef = np.append(coef, np.zeros_like(magnitude))
    if intervention.layers is not None:
        inside = np.isin(layers_of(flat, neuron_set.widths), intervention.layers)
        flat, mult, add, coef = flat[inside], mult[inside], add[inside], coef[inside]
    order = np.argsort(flat)
    offsets = np.searchsorted(flat[order], np.array(neuron_set.widths.offsets))
    return Edits(
        offsets=offsets.astype(np.int64),
        indices=pairs_of(flat[order], neuron_set.widths)[:, 1].copy(),
        mult=mult[order].astype(np.float32),
        add=add[order].astype(np.float32),
        statistic=intervention.statistic,
        coef=None if intervention.statistic is None else coef[order].astype(np.float32),
    )


def _check_names(intervention: Intervention, neuron_set: NeuronSet) -> None:
    """Check that the neuron set has the languages, layers and neuron that the intervention names."""
    named = [("languages", code) for code in intervention.languages]
    if intervention.other is not None:
        named.append(("other", intervention.other))
    if intervention.source is not None:
        named.append(("source.language", intervention.source.language))
    for field, code in named:
        if code not in neuron_set.neurons:
            raise unknown_language("language", code, neuron_set.languages, param=f"intervention.{field}")
    if intervention.layers is not None and max(intervention.layers) >= neuron_set.layers:
        raise InvalidRequest(
            f"layers {list(intervention.layers)}: the model has layers 0 to {neuron_set.layers - 1}",
            param="intervention.layers",
        )
    if intervention.neuron is not None and outside(np.array([intervention.neuron]), neuron_set.widths).any():
        message = f"{list(intervention.neuron)}: the model has {neuron_set.widths}"
        raise InvalidRequest(message, param="intervention.neuron")


def require_neurons(edits: Edits, intervention: Intervention, neuron_set: NeuronSet) -> None:
    """Check that the intervention changes a neuron of each of its languages in its layers.

    One with a vector needs none. With `non_target` or `source` a language may have none, because the neurons of other
    languages are changed.

    Args:
        edits: The resolved intervention.
        intervention: The intervention.
        neuron_set: The neuron set that it was resolved with.

    Raises:
        NoNeurons: The intervention would change nothing; `param` names the field to change.
    """
    if edits.vectors is not None:
        return
    if intervention.neuron is not None:
        _require_neuron(intervention.neuron, intervention, neuron_set)
    param = "languages" if intervention.other is None else "other"
    owners = intervention.languages if intervention.other is None else (intervention.other,)
    empty = [code for code in owners if not _layers_with_neurons(neuron_set, code, intervention.layers)]
    changes_others = intervention.non_target is not None or intervention.source is not None
    if len(edits.indices) and (not empty or changes_others):
        return
    elsewhere = {layer for code in empty for layer in _layers_with_neurons(neuron_set, code, None)}
    names = ", ".join(empty or owners)
    if elsewhere:
        layers, others = (", ".join(map(str, sorted(part))) for part in (intervention.layers or (), elsewhere))
        if without := [layer for layer in intervention.layers or () if not neuron_set.widths.of(layer)]:
            layers += f" (of which {', '.join(map(str, without))} have no MLP)"
        message = f"neuron set {neuron_set.id} has no neurons of {names} in layers {layers}, only in {others}"
        raise NoNeurons(f"{message}; choose among those", param="intervention.layers")
    counts = ", ".join(f"{code} ({len(pairs)})" for code, pairs in neuron_set.neurons.items() if len(pairs))
    message = f"neuron set {neuron_set.id} has no neurons of {names}, so nothing would be steered"
    raise NoNeurons(f"{message}; languages with neurons: {counts or 'none'}", param=f"intervention.{param}")


def _require_neuron(neuron: tuple[int, int], intervention: Intervention, neuron_set: NeuronSet) -> None:
    """Raise NoNeurons if a neuron belongs to none of the languages, or is not in the layers of the intervention."""
    layer, index = neuron
    if not any((neuron_set.neurons[code] == neuron).all(axis=1).any() for code in intervention.languages):
        languages = ", ".join(intervention.languages)
        message = f"neuron {index} of layer {layer} is not a neuron of {languages} in neuron set {neuron_set.id}"
        raise NoNeurons(f"{message}; name one of its neurons", param="intervention.neuron")
    if intervention.layers is not None and layer not in intervention.layers:
        layers = ", ".join(map(str, intervention.layers))
        message = f"neuron {index} of layer {layer} of neuron set {neuron_set.id} is not in layers {layers}"
        raise NoNeurons(f"{message}; leave layers out", param="intervention.neuron")


def _further_ops(intervention: Intervention, neuron_set: NeuronSet) -> Iterator[tuple[list[str], NonTarget]]:
    """Yield the ops of languages that are no targets, with these languages; for a neuron of several, the first wins."""
    if intervention.source is not None:
        yield [intervention.source.language], intervention.source
    if intervention.non_target is not None:
        yield [code for code in neuron_set.languages if code not in intervention.languages], intervention.non_target


def _without_neurons(layers: int, vectors: NDArray[np.float32]) -> Edits:
    """Return edits that add vectors to the residual stream and change no neuron."""
    none = np.empty(0, dtype=np.float32)
    return Edits(
        offsets=np.zeros(layers + 1, dtype=np.int64),
        indices=none.astype(np.int32),
        mult=none,
        add=none,
        vectors=vectors,
    )


def _layers_with_neurons(neuron_set: NeuronSet, language: str, layers: tuple[int, ...] | None) -> set[int]:
    """Return the layers, of `layers` or of all, in which a language has neurons."""
    present = set(neuron_set.neurons[language][:, 0].tolist())
    return present if layers is None else present.intersection(layers)


def _flat(neuron_set: NeuronSet, language: str) -> NDArray[np.int64]:
    return numbers_of(neuron_set.neurons[language], neuron_set.widths)


def _union(neuron_set: NeuronSet, languages: list[str]) -> NDArray[np.int64]:
    """Return the neurons of any of the languages, each once, as ascending numbers; see `numbering`."""
    return np.unique(np.concatenate([np.empty(0, dtype=np.int64), *(_flat(neuron_set, code) for code in languages)]))


def _target(intervention: Intervention, neuron_set: NeuronSet) -> NDArray[np.int64]:
    """Return the neurons that the op is applied to, each once, as numbers; see `numbering`."""
    targets = _union(neuron_set, list(intervention.languages))
    if intervention.neuron is not None:
        return np.intersect1d(targets, numbers_of(np.array([intervention.neuron]), neuron_set.widths))
    if intervention.selection in (None, "zero"):
        return targets
    per_layer = np.bincount(layers_of(targets, neuron_set.widths), minlength=neuron_set.layers)
    if intervention.selection == "non_language":
        return _highest_entropy(neuron_set, per_layer)
    key = [neuron_set.id, list(intervention.languages), intervention.seed]
    return numbers_of(draw_neurons(per_layer, widths=neuron_set.widths, key=key), neuron_set.widths)


def _highest_entropy(neuron_set: NeuronSet, per_layer: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the `per_layer[l]` candidates of each layer with the highest entropy that belong to no language.

    Fewer where a layer has fewer. Ties go to the lower index.
    """
    if neuron_set.entropy is None:
        raise InvalidRequest(
            f"neuron set {neuron_set.id} has no entropies, which selection non_language needs: it was imported, or "
            "identified by an earlier version; delete it and identify it again",
            param="intervention.selection",
        )
    is_candidate = np.isfinite(neuron_set.entropy).ravel()
    is_candidate[_union(neuron_set, list(neuron_set.languages))] = False
    entropy = neuron_set.entropy.ravel()
    chosen: list[NDArray[np.int64]] = []
    for (first, end), count in zip(pairwise(neuron_set.widths.offsets), per_layer.tolist(), strict=True):
        candidates = first + np.flatnonzero(is_candidate[first:end])
        highest = np.argsort(-entropy[candidates], kind="stable")[:count]
        chosen.append(np.sort(candidates[highest]))
    return np.concatenate(chosen)


def _magnitude(
    intervention: Intervention, neuron_set: NeuronSet, target: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the weight w of each target neuron and its magnitude times w, float64 [neurons] each.

    The magnitude is the factor, or the patch value times the factor. A neuron of several languages has the means of
    both over its languages.
    """
    if intervention.selection in (None, "zero"):
        belongs = np.stack([np.isin(target, _flat(neuron_set, code)) for code in intervention.languages])
    else:  # a control's neuron belongs to none of the languages: it gets the mean over all of them
        belongs = np.ones((len(intervention.languages), len(target)), dtype=bool)
    weights = belongs * np.array(intervention.weights or [1.0] * len(belongs))[:, None]
    magnitudes = weights * intervention.factor
    if intervention.patch is not None:
        magnitudes *= _patch(intervention.patch, intervention, neuron_set, target)
    languages = belongs.sum(axis=0)
    return weights.sum(axis=0) / languages, magnitudes.sum(axis=0) / languages


def _patch(
    kind: Patch, intervention: Intervention, neuron_set: NeuronSet, target: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return the patch values of the target neurons in the languages, float32 [languages, neurons]."""
    if neuron_set.patch is None:
        raise InvalidRequest(
            f"neuron set {neuron_set.id} has no patch values: it was imported, not recorded; use a factor alone, or "
            "import it with `ampsweep neurons import --values-from`",
            param="intervention.patch",
        )
    if kind == "difference" and len(neuron_set.languages) < 2:
        raise InvalidRequest(
            f"neuron set {neuron_set.id} has only {neuron_set.languages[0]}: patch difference needs other languages to "
            "compare with; use a set of several languages",
            param="intervention.patch",
        )
    rows = [neuron_set.languages.index(code) for code in intervention.languages]
    if (values := neuron_set.patch.of_neurons(kind, rows, target)) is None:
        raise InvalidRequest(
            f"neuron set {neuron_set.id} has no patch values {kind}: only mean activations were imported; use mean or "
            "difference",
            param="intervention.patch",
        )
    return values


def _affine(
    op: Op, weight: NDArray[np.float64], magnitude: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (mult, add) of the affine map a + w * (op(a) - a), float64 [neurons] each.

    This is the one place that knows what an op computes. If v is a statistic, `add` is its coefficient instead.

    Args:
        op: The op.
        weight: The weight w of each neuron.
        magnitude: w times the magnitude (the factor, or v) of each neuron.
    """
    match op:
        case "scale":
            return (1.0 - weight) + magnitude, np.zeros_like(magnitude)
        case "add":
            return np.ones_like(weight), magnitude
        case "set":
            return 1.0 - weight, magnitude
        case _:
            assert_never(op)
