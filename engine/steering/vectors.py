"""Resolution of an intervention on the residual stream: the vector that is added at each layer's output. NumPy only.

The vector of a layer is a difference in means (`diffmean`): with m_g the mean residual of language g over the tokens of
the recorded corpus, d_g = m_g - mean of m over the languages that are not targets, and v = mean of d_g over the
targets. `diffmean` divides v by its length, `diffmean_raw` does not. Weights multiply the d_g of their languages but do
not change the length that v is divided by, so a language with weight w gets w times its vector.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from ampsweep.domain.intervention import Intervention
from ampsweep.errors import InvalidRequest
from ampsweep.hashing import canonical_json
from engine.neurons.neuron_set import NeuronSet


def resolve_vectors(intervention: Intervention, neuron_set: NeuronSet) -> NDArray[np.float32]:
    """Return what the intervention adds at the output of each layer, float32 [L, H]; 0 in layers that it leaves alone.

    Args:
        intervention: A valid intervention with a `vector`, whose languages and layers the set has.
        neuron_set: The mean residual of each language.

    Raises:
        InvalidRequest: The set has no mean residuals, or no language besides the targets.
    """
    directions = _directions(intervention, neuron_set)
    if intervention.selection == "random":
        lengths = np.linalg.norm(directions, axis=1, keepdims=True)
        key = [neuron_set.id, list(intervention.languages), intervention.seed]
        directions = lengths * random_directions(*directions.shape, key=key)
    added = intervention.factor * directions
    if intervention.layers is not None:
        inside = np.isin(np.arange(len(added)), intervention.layers)
        added[~inside] = 0.0
    return added.astype(np.float32)


def random_directions(layers: int, hidden_size: int, *, key: object) -> NDArray[np.float64]:
    """Return a direction of unit length for each layer, uniform over the sphere, float64 [layers, hidden_size].

    It depends on the arguments alone: normal numbers are made from the raw bits of PCG64, which numpy promises never to
    change, by the transform of Box and Muller.

    Args:
        layers: Number of layers.
        hidden_size: Size of the residual stream.
        key: The seed, any canonical JSON value.
    """
    digest = hashlib.sha256(canonical_json(key).encode()).digest()
    bits = np.random.PCG64(int.from_bytes(digest[:16], "big")).random_raw(2 * layers * hidden_size)
    uniform = ((bits >> np.uint64(11)) + 0.5) / 2.0**53  # in (0, 1)
    radius, angle = uniform.reshape(2, layers, hidden_size)
    normal = np.sqrt(-2.0 * np.log(radius)) * np.cos(2.0 * np.pi * angle)
    directions: NDArray[np.float64] = normal / np.linalg.norm(normal, axis=1, keepdims=True)
    return directions


def _directions(intervention: Intervention, neuron_set: NeuronSet) -> NDArray[np.float64]:
    """Return v of each layer, float64 [L, H]; 0 in a layer where the languages do not differ."""
    if neuron_set.residual_mean is None:
        raise InvalidRequest(
            f"neuron set {neuron_set.id} has no residual vectors: it was imported, or identified before they were "
            "recorded; delete its folder and identify it again",
            param="intervention.vector",
        )
    targets = [neuron_set.languages.index(code) for code in intervention.languages]
    others = [index for index in range(len(neuron_set.languages)) if index not in targets]
    if not others:
        raise InvalidRequest(
            f"{intervention.vector} compares the languages with the others of neuron set {neuron_set.id}, which has "
            f"only {', '.join(neuron_set.languages)}; name fewer languages, or identify a set with more",
            param="intervention.languages",
        )
    means = neuron_set.residual_mean.astype(np.float64)
    differences = means[targets] - means[others].mean(axis=0)
    weights = np.array(intervention.weights or [1.0] * len(targets))
    directions: NDArray[np.float64] = (weights[:, None, None] * differences).mean(axis=0)
    if intervention.vector == "diffmean_raw":
        return directions
    lengths = np.linalg.norm(differences.mean(axis=0), axis=1, keepdims=True)
    unit: NDArray[np.float64] = directions / np.where(lengths > 0, lengths, 1.0)
    return unit
