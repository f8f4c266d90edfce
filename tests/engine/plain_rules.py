"""What an intervention does to activations and residuals, a second time, from the words of the documentation alone.

Written from docs/spec.md and docs/method.md, in float64, neuron by neuron, on the JSON of a request: nothing of
`ampsweep.domain.intervention` or `engine.steering` is used. The pages do not say which random neurons and which random
direction a seed draws, so these two are taken from the product.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ampsweep.domain.languages.identifier import LanguageIdentifier
from engine.neurons.neuron_set import NeuronSet
from engine.neurons.random_selection import draw_neurons
from engine.steering.vectors import random_directions

Json = Mapping[str, Any]
Neuron = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Change:
    """One op on one neuron: weight, op, and a value that is multiplied by a statistic if it names one."""

    weight: float
    op: str
    value: float
    statistic: str | None = None

    def moved(self, active: Tensor, statistic: Tensor | None) -> Tensor:
        """Return weight * (op(a) - a) of the activations [T]."""
        value = torch.full_like(active, self.value) if statistic is None else self.value * statistic
        after = {"scale": value * active, "add": active + value, "set": value}[self.op]
        return self.weight * (after - active)


class Rules:
    """The changes of one intervention on one neuron set."""

    def __init__(self, raw: Json, neurons: NeuronSet) -> None:
        self.raw = raw
        self._set = neurons
        self.changes: dict[Neuron, list[Change]] = {}
        self.vectors: Tensor | None = None
        if raw.get("vector"):
            self.vectors = self._vectors()
        else:
            self._add_changes()

    @property
    def _weights(self) -> dict[str, float]:
        languages = self.raw["languages"]
        return dict(languages) if isinstance(languages, Mapping) else dict.fromkeys(languages, 1.0)

    def _in_layers(self, layer: int) -> bool:
        layers = self.raw.get("layers", "all")
        return layers == "all" or layer in layers

    def _neurons_of(self, languages: Iterable[str]) -> set[Neuron]:
        return {(int(layer), int(index)) for code in languages for layer, index in self._set.neurons[code]}

    def _add_changes(self) -> None:
        raw, weights = self.raw, self._weights
        if raw.get("selection") == "other":  # its neurons, as if it were the target
            weights = {raw["other"]: fmean(weights.values())}
        edited = self._selected(weights)
        further: dict[Neuron, list[Change]] = {}
        if raw.get("non_target"):
            rest = [code for code in self._set.neurons if code not in weights]
            further |= self._further(raw["non_target"], rest)
        if raw.get("source") and raw["source"]["language"] not in weights:
            further |= self._further(raw["source"], [raw["source"]["language"]])
        everywhere = further | edited  # the op of the target wins, then that of the source
        self.changes = {neuron: ways for neuron, ways in everywhere.items() if self._in_layers(neuron[0])}

    def _further(self, op: Json, languages: Iterable[str]) -> dict[Neuron, list[Change]]:
        change = Change(weight=1.0, op=op["op"], value=float(op["factor"]))
        return {neuron: [change] for neuron in self._neurons_of(languages)}

    def _selected(self, weights: Mapping[str, float]) -> dict[Neuron, list[Change]]:
        own = {code: self._neurons_of([code]) for code in weights}
        selection = self.raw.get("selection")
        if selection in ("random", "non_language"):
            count = dict.fromkeys(range(self._set.layers), 0)
            for layer, _ in set().union(*own.values()):
                count[layer] += 1
            chosen = self._random(count) if selection == "random" else self._most_even(count)
            own = dict.fromkeys(weights, chosen)
        if self.raw.get("neuron") is not None:
            own = {code: neurons & {tuple(self.raw["neuron"])} for code, neurons in own.items()}
        ways: dict[Neuron, list[Change]] = {}
        for code, neurons in own.items():
            for neuron in neurons:
                ways.setdefault(neuron, []).append(self._change(code, neuron, weights[code]))
        return ways

    def _change(self, code: str, neuron: Neuron, weight: float) -> Change:
        raw = self.raw
        value = 1.0 if raw.get("factor") is None else float(raw["factor"])
        if raw.get("patch"):
            value *= self._patch(raw["patch"], code, neuron)
        return Change(weight=weight, op=raw["op"], value=value, statistic=raw.get("statistic"))

    def _patch(self, kind: str, code: str, neuron: Neuron) -> float:
        assert self._set.patch is not None
        place = {language: index for index, language in enumerate(self._set.neurons)}
        values: Any = getattr(self._set.patch, "mean" if kind == "difference" else kind)
        own = float(values[(place[code], *neuron)])
        if kind != "difference":
            return own
        return own - fmean(float(values[(index, *neuron)]) for name, index in place.items() if name != code)

    def _random(self, count: Mapping[int, int]) -> set[Neuron]:
        key = [self._set.id, sorted(self._weights), self.raw.get("seed", 0)]
        drawn = draw_neurons(np.array(list(count.values())), widths=self._set.widths, key=key)
        return {(int(layer), int(index)) for layer, index in drawn}

    def _most_even(self, count: Mapping[int, int]) -> set[Neuron]:
        """Return, in each layer, as many candidates of the highest entropy as are in no language."""
        assert self._set.entropy is not None
        taken, chosen = self._neurons_of(self._set.neurons), set[Neuron]()
        for layer, entropies in enumerate(self._set.entropy):
            free = [index for index, each in enumerate(entropies) if np.isfinite(each) and (layer, index) not in taken]
            free.sort(key=lambda index: (-entropies[index], index))
            chosen |= {(layer, index) for index in free[: count[layer]]}
        return chosen

    def _vectors(self) -> Tensor:
        """Return what is added at the output of each layer, float64 [L, H]."""
        assert self._set.residual_mean is not None
        means = dict(zip(self._set.neurons, torch.from_numpy(self._set.residual_mean).double(), strict=True))
        weights = self._weights
        elsewhere = torch.stack([mean for code, mean in means.items() if code not in weights]).mean(dim=0)
        apart = {code: means[code] - elsewhere for code in weights}
        vectors = torch.stack([weight * apart[code] for code, weight in weights.items()]).mean(dim=0)
        if self.raw["vector"] == "diffmean":
            vectors = vectors / torch.stack(list(apart.values())).mean(dim=0).norm(dim=1, keepdim=True)
        if self.raw.get("selection") == "random":
            key = [self._set.id, sorted(weights), self.raw.get("seed", 0)]
            vectors = vectors.norm(dim=1, keepdim=True) * torch.from_numpy(random_directions(*vectors.shape, key=key))
        inside = torch.tensor([float(self._in_layers(layer)) for layer in range(len(vectors))])
        return float(self.raw["factor"]) * vectors * inside[:, None]

    def edited(self, layer: int, active: Tensor, strengths: Tensor) -> Tensor:
        """Return the activations [T, F] of a layer after the edits at tokens with these strengths [T], in float64."""
        result = active.clone()
        statistics: dict[str, Tensor] = {}
        for (where, index), ways in self.changes.items():
            if where != layer:
                continue
            for way in ways:
                if way.statistic is not None and way.statistic not in statistics:
                    statistics[way.statistic] = torch.tensor([statistic_of(way.statistic, row) for row in active])
            own = active[:, index]
            moved = [way.moved(own, statistics[way.statistic] if way.statistic else None) for way in ways]
            result[:, index] = own + strengths * torch.stack(moved).mean(dim=0)
        return result

    def shifted(self, layer: int, residual: Tensor, strengths: Tensor) -> Tensor:
        """Return the residual stream [T, H] at the output of a layer after the edits."""
        return residual if self.vectors is None else residual + strengths[:, None] * self.vectors[layer]


def statistic_of(word: str, row: Tensor) -> float:
    """Return a statistic of one token's activations [F], as docs/spec.md defines it."""
    values = np.sort(row.double().numpy())
    median = values[(len(values) - 1) // 2]  # the lower one
    if word == "iqr":
        return float(np.percentile(values, 75) - np.percentile(values, 25))
    if word == "mad":
        return float(np.sort(np.abs(values - median))[(len(values) - 1) // 2])
    if word.startswith("p"):
        return float(np.percentile(values, float(word[1:])))
    fixed = {"mean": values.mean(), "std": values.std(ddof=1), "max": values[-1], "median": median}
    return float(fixed[word])


def strengths_of(raw: Json, *, prompt_tokens: int, total: int) -> Tensor:
    """Return how strongly each of `total` tokens is edited, float64 [total], by the scope and `tokens`."""
    scope: dict[str, list[int]] = {
        "all": list(range(total)),
        "prompt": list(range(prompt_tokens)),
        "generation": list(range(prompt_tokens, total)),
    }
    inside = scope[raw.get("scope") or "all"]
    tokens: Json = raw.get("tokens") or {}
    if tokens.get("positions") is not None:
        count = len(inside)
        places = [place for place in tokens["positions"] if -count <= place < count]
        edited = sorted({inside[place] for place in places})
    else:
        edited = inside[slice(tokens.get("start"), tokens.get("end"))]
    decay = tokens.get("decay") or 1.0
    strengths = torch.zeros(total, dtype=torch.float64)
    for position in edited:
        strengths[position] = decay ** (position - edited[0])
    return strengths


def switched_on(
    raw: Json,
    *,
    prompt: Sequence[int],
    answer: Sequence[int],
    texts: Sequence[str],
    identifier: LanguageIdentifier,
    markers: tuple[int, int],
) -> list[bool]:
    """Return which tokens of an answer are steered with `when`, `part` or both.

    Args:
        raw: The intervention; `when` is an object with all settings, but `confidence`.
        prompt: The tokens of the prompt.
        answer: Those of the answer.
        texts: Their texts.
        identifier: Identifies a language.
        markers: The tokens before and after what is thought.
    """
    drift: Json | None = (raw.get("when") or {}).get("drift")
    targets = set(raw["languages"])
    text, due, agreeing, drifting = "", 0 if drift is None else drift["min_characters"], 0, False
    thinking = [token for token in prompt if token in markers][-1:] == [markers[0]]
    steered = []
    for token, piece in zip(answer, texts, strict=True):
        in_part = raw.get("part") is None or thinking == (raw["part"] == "thinking")
        steered.append(in_part and (drift is None or drifting))
        if token in markers:
            thinking = token == markers[0]
        if drift is None or not in_part:
            continue
        text += piece
        if len(text) < due:
            continue
        due = len(text) + drift["every"]
        end = text[-drift["window"] :]
        if not any(character.isalpha() for character in end):
            continue
        away = identifier.identify(end).language not in targets
        agreeing = agreeing + 1 if away != drifting else 0
        if agreeing == (drift["switch_off"] if drifting else drift["switch_on"]):
            drifting, agreeing = not drifting, 0
    return steered


def in_form(
    logits: Tensor, answer: Sequence[int], texts: Sequence[str], *, letters: str, least: int, most: int, end: int
) -> Tensor:
    """Return logits [T, vocabulary] with -inf for tokens that a constraint on the text of an answer does not allow.

    Args:
        logits: The logits of each token of the answer.
        answer: Its tokens.
        texts: The text of each token of the vocabulary; empty for special ones.
        letters: The characters that the text consists of.
        least: How many it has at least.
        most: And at most.
        end: The end-of-sequence token.
    """
    constrained, length = torch.full_like(logits, -torch.inf), 0
    fits = [len(text) if text and set(text) <= set(letters) else most + 1 for text in texts]
    for step, token in enumerate(answer):
        allowed = [candidate for candidate, size in enumerate(fits) if length + size <= most]
        allowed += [end] if length >= least else []
        constrained[step, allowed] = logits[step, allowed]
        length += len(texts[token])
    return constrained
