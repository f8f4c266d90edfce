"""LAPE's scores of all neurons and of the residual stream, in a file beside the neuron set of the same recording.

The file is safetensors. Its header has the id of the set, the languages, the parameters of the selection, and what was
left out. A set is complete without it: no intervention reads scores.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from ampsweep.domain.neurons.layer_widths import LayerWidths
from ampsweep.errors import DamagedFile, NotFound
from ampsweep.files import atomic_write
from engine.neurons.numbering import pairs_of
from engine.neurons.safetensors_writer import save_tensors

SCORES_FILE = "scores.safetensors"
"""Name of the file in a neuron set's folder."""
LEFT_OUT = ("attention_heads",)
"""Parts of a model that LAPE could score, and that are not recorded."""
_KEY = "ampsweep.scores"

Site = Literal["mlp", "residual"]
"""What is scored: the activations of a layer's MLP, or the residual stream at the layer's output."""
SITES: tuple[Site, ...] = get_args(Site)


@dataclass(frozen=True, kw_only=True, eq=False)
class SiteScores:
    """LAPE's scores of one site, whose layers have D numbers in total, over G languages.

    Attributes:
        widths: The numbers of each layer: neurons of the MLP, or dimensions of the residual stream.
        probability: Share of a language's tokens at which the value is above 0, float32 [G, D].
        entropy: Entropy of the probabilities over the languages in nats, float32 [D]; NaN where all are 0.
        candidate: Whether LAPE may select it, bool [D].
        selected: Whether LAPE selects it for a language, bool [G, D].
    """

    widths: LayerWidths
    probability: NDArray[np.float32]
    entropy: NDArray[np.float32]
    candidate: NDArray[np.bool_]
    selected: NDArray[np.bool_]

    @property
    def positions(self) -> NDArray[np.int32]:
        """The layer and the index of each score, int32 [D, 2]."""
        return pairs_of(np.arange(self.widths.total), self.widths)

    @property
    def by_entropy(self) -> NDArray[np.int64]:
        """All numbers, candidates first, by ascending entropy; ties go to the lower layer, then to the lower index."""
        order: NDArray[np.int64] = np.lexsort((self.entropy, ~self.candidate))
        return order


@dataclass(frozen=True, kw_only=True, eq=False)
class LapeScores:
    """The scores of a recording.

    Attributes:
        neuron_set: Id of the set.
        languages: The languages, in the order of the axis G.
        params: `top_rate`, `filter_rate` and `activation_bar` of the selection, which was made at each site by itself.
        sites: The scores of each site.
    """

    neuron_set: str
    languages: tuple[str, ...]
    params: Mapping[str, float]
    sites: Mapping[Site, SiteScores]

    @property
    def metadata(self) -> dict[str, Any]:
        """What the scores are of, as a JSON object; `left_out` names what LAPE could score and was not recorded."""
        return {
            "neuron_set": self.neuron_set,
            "languages": list(self.languages),
            "params": dict(self.params),
            "left_out": list(LEFT_OUT),
        }

    def save(self, folder: Path) -> None:
        """Write the scores to the folder of their neuron set, which must exist."""
        widths = {site: {"layers": each.widths.layers, "width": each.widths.width} for site, each in self.sites.items()}
        arrays = {
            f"{site}.{field.name}": getattr(scores, field.name)
            for site, scores in self.sites.items()
            for field in fields(scores)
            if field.name != "widths"
        }
        header = {_KEY: json.dumps({**self.metadata, "sites": widths})}
        with atomic_write(folder / SCORES_FILE) as path:
            save_tensors(arrays, path, metadata=header)

    @classmethod
    def load(cls, folder: Path, *, neuron_set: str) -> LapeScores:
        """Read the scores in the folder of a neuron set.

        Args:
            folder: The folder.
            neuron_set: Id of the set in the folder.

        Raises:
            NotFound: The folder has no scores.
            DamagedFile: The file cannot be read, or has the scores of another set.
        """
        path = folder / SCORES_FILE
        if not path.is_file():
            message = f"neuron set {neuron_set} has no scores: {path} is missing"
            raise NotFound(f"{message}; identify the set again with --scores", param="neurons")
        try:
            with safe_open(path, framework="numpy") as file:
                header = json.loads(file.metadata()[_KEY])
                sites = {site: _site(file, site, raw) for site, raw in header["sites"].items() if site in SITES}
            scores = cls(
                neuron_set=header["neuron_set"],
                languages=tuple(header["languages"]),
                params=header["params"],
                sites=sites,
            )
        except (ValueError, KeyError, TypeError, AttributeError, OSError, SafetensorError) as error:
            raise DamagedFile(f"{path} cannot be read as scores: {error}") from error
        if scores.neuron_set != neuron_set:
            raise DamagedFile(f"{path} has the scores of {scores.neuron_set}, not of {neuron_set}; delete it")
        return scores

    def rows(self, site: Site, numbers: Sequence[int] | NDArray[np.int64]) -> list[dict[str, Any]]:
        """Return some scores of a site as objects: what `ampsweep neurons scores --json` prints of each.

        Args:
            site: The site.
            numbers: The numbers of the scores, counted through all layers.
        """
        scores = self.sites[site]
        positions = scores.positions
        return [
            {
                "site": site,
                "layer": int(positions[number, 0]),
                "index": int(positions[number, 1]),
                "entropy": None if np.isnan(scores.entropy[number]) else float(scores.entropy[number]),
                "candidate": bool(scores.candidate[number]),
                "probability": dict(zip(self.languages, scores.probability[:, number].tolist(), strict=True)),
                "selected": [
                    code for code, chosen in zip(self.languages, scores.selected[:, number], strict=True) if chosen
                ],
            }
            for number in numbers
        ]


def _site(file: Any, site: str, raw: Mapping[str, Any]) -> SiteScores:
    widths = LayerWidths.parse(raw["layers"], raw["width"])
    arrays = {
        field.name: file.get_tensor(f"{site}.{field.name}") for field in fields(SiteScores) if field.name != "widths"
    }
    if any(array.shape[-1] != widths.total for array in arrays.values()):
        raise ValueError(f"the arrays of {site} do not have {widths.total} numbers")
    scores = SiteScores(widths=widths, **arrays)
    if not (finite := np.isfinite(scores.probability)).all():
        place, number = np.argwhere(~finite)[0].tolist()
        layer, index = scores.positions[number].tolist()
        raise ValueError(
            f"{site}.probability has {scores.probability[place, number]} for index {index} of layer {layer}; identify "
            "the set again with --scores"
        )
    return scores
