"""Ranks neurons by how much worse a metric became when a sweep edited each of them alone (`neurons: each`)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from ampsweep.domain.choices import one_of
from ampsweep.errors import InvalidRequest

Row = Mapping[str, Any]
_CHOICES = {"op": "none", "tokens": "all tokens", "when": "at every token", "part": "the whole text"}
"""Columns that describe the edit of a neuron, each with the meaning of null in words."""


@dataclass(frozen=True, kw_only=True)
class RankedNeuron:
    """One neuron of a language and what editing it alone did.

    Attributes:
        language: The language that the neuron belongs to.
        layer: Its layer.
        index: Its index in the layer.
        loss: How much worse the metric became in the language, mean over `cells`; negative where it became better.
        loss_elsewhere: The same, mean over the other data languages; None if the sweep has none, as with LSS.
        cells: Number of cells that `loss` is the mean of.
    """

    language: str
    layer: int
    index: int
    loss: float
    loss_elsewhere: float | None
    cells: int


def ranking_metric(rows: Iterable[Row], metric: str | None) -> str:
    """Return the metric that ranks the neurons: the one that is named, or else the only one with a better direction.

    Raises:
        InvalidRequest: No neuron was edited alone, or the metric is not one of these; `param` is the field.
    """
    singles = [row for row in rows if row.get("neuron_layer") is not None]
    if not singles:
        message = "the sweep edited no neuron alone; give its spec `neurons: each` in interventions"
        raise InvalidRequest(f"{message}, and run it again", param="sweep")
    usable: list[str] = sorted({row["metric"] for row in singles if row["higher_is_better"] is not None})
    if metric is None and len(usable) == 1:
        return usable[0]
    if metric is None or metric not in usable:
        got = "the sweep has several" if metric is None else f"got {metric!r}"
        raise InvalidRequest(f"must be {one_of(usable)}; {got}", param="metric")
    return metric


def rank_neurons(rows: Iterable[Row], metric: str) -> dict[str, list[RankedNeuron]]:
    """Return the neurons of each target language, those with the largest loss first.

    The loss of a cell is its difference from the unsteered baseline, positive if the metric became worse. For LSS,
    which has no baseline, it is the difference from 0.5, and all base languages count as cells of the target language.
    Ties go to the lower layer, then to the lower index.

    Args:
        rows: The rows of a summary.
        metric: A metric with a better direction.

    Raises:
        InvalidRequest: No neuron was edited on data in its own language, or the cells differ in the op or in the edited
            tokens, so that their mean would say nothing about any of the choices (param "sweep").
    """
    rows = [row for row in rows if row["metric"] == metric and row.get("neuron_layer") is not None]
    _require_one_choice(rows)
    own_losses: dict[tuple[str, int, int], list[float]] = defaultdict(list)
    elsewhere: dict[tuple[str, int, int], list[float]] = defaultdict(list)
    for row in rows:
        if row["value"] is not None:
            neuron = row["target_language"], row["neuron_layer"], row["neuron_index"]
            in_language = row["delta"] is None or row["data_language"] == row["target_language"]
            (own_losses if in_language else elsewhere)[neuron].append(_loss(row))
    ranking: dict[str, list[RankedNeuron]] = defaultdict(list)
    for (language, layer, index), losses in own_losses.items():
        others = elsewhere.get((language, layer, index))
        ranking[language].append(
            RankedNeuron(
                language=language,
                layer=layer,
                index=index,
                loss=fmean(losses),
                loss_elsewhere=None if others is None else fmean(others),
                cells=len(losses),
            )
        )
    if not ranking:
        message = f"no neuron was edited on data in its own language, so {metric} ranks none"
        raise InvalidRequest(f"{message}; add the target languages to the languages of a task", param="metric")
    return {language: sorted(neurons, key=_order) for language, neurons in ranking.items()}


def _require_one_choice(rows: Iterable[Row]) -> None:
    """Raise InvalidRequest if the cells of a ranking differ in the op or in the edited tokens."""
    for column, everything in _CHOICES.items():
        choices = {row.get(column) for row in rows}
        if len(choices) > 1:
            names = ", ".join(sorted(everything if choice is None else repr(choice) for choice in choices))
            message = f"the sweep edited each neuron with several choices of {column} ({names})"
            remedy = f"run it with one choice of {column}, or once for each of them, and rank that sweep"
            raise InvalidRequest(f"{message}, and a mean over them ranks none; {remedy}", param="sweep")


def _loss(row: Row) -> float:
    change = row["value"] - (row["no_effect"] or 0.0) if row["delta"] is None else row["delta"]
    return float(-change if row["higher_is_better"] else change)


def _order(neuron: RankedNeuron) -> tuple[float, int, int]:
    return -round(neuron.loss, 12), neuron.layer, neuron.index
