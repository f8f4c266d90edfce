"""The atlas' report: Markdown tables, printed line by line as the numbers come in and written at the end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ampsweep.files import atomic_write
from engine.base import EngineInfo
from examples.atlas.labels import LANGUAGES
from examples.atlas.shift import Shift

INTRODUCTION = """# The atlas

A small multilingual model of the project's own, and the facts it was trained on, so that tests, examples and the demo
need no download. Its facts' labels are CLDR's (Unicode License v3), its sentence templates were written for this
project. It is no language model to be used for anything else: it speaks {languages} languages, and only about
countries.

`python -m examples.atlas.facts` builds the facts, `python -m examples.atlas.train` the model,
`python -m examples.atlas.evaluate` this page; every number below comes from that run.

The model is trained to choose its language: documents change language between sentences and between a premise and its
answer; an auxiliary loss sets a few neurons of each layer aside for each language; and in some documents such neurons
are held on while a premise in another language is read, and the answer is given in theirs (see
`examples/atlas/train.py`). Its language neurons are therefore cleaner, and obey better, than those of a model trained
on plain text: LAPE has to find them, by its unchanged rule, but the figures say that the way from identification to LSS
works, and nothing about other models.

Use `set` or `add` with it. A language neuron at rest has a small negative activation, as SiLU gives it; `scale` with a
factor above 1 pushes that further down, so that it works against the target language.
"""


def name_of(op: Mapping[str, Any]) -> str:
    """An op in a few words."""
    patch = f" {op['patch']} x" if "patch" in op else ""
    return f"{op['op']}{patch} {op['factor']:g}"


class Report:
    """Lines of Markdown."""

    def __init__(self) -> None:
        self.lines = INTRODUCTION.format(languages=len(LANGUAGES)).splitlines()

    def add(self, *lines: str) -> None:
        """Print lines and keep them."""
        print(*lines, sep="\n", flush=True)
        self.lines.extend(lines)

    def model(self, info: EngineInfo, parameters: int, top_rate: float) -> None:
        """The model's shape, and how its neurons were found."""
        self.add(
            "",
            f"{info.model_class}: {info.layers} layers of {info.width} neurons, {parameters:,} parameters, "
            f"{info.dtype}. Neurons by LAPE on `ampsweep/atlas/corpus` with top_rate {top_rate:g}, filter_rate 0.95 "
            "and activation_bar 0.95.",
        )

    def languages(self, known: NDArray[np.float64], unseen: NDArray[np.float64], neurons: Mapping[str, int]) -> None:
        """What each language knows and owns; probabilities ``[languages]`` in the order of ``LANGUAGES``."""
        self.add(
            "",
            "## Facts known, and neurons",
            "",
            "Mean probability of the right answer after a premise: over all premises, and over those whose fact was",
            "never told in that form during training. It cannot reach 1: some training documents change language",
            "at the answer, and in ja, ta, tr, vi and zh a statement begins like a question, which is as likely.",
            "",
            "| language | all forms | held-out forms | LAPE neurons |",
            "|---|---|---|---|",
            *(
                f"| {code} | {known[at]:.3f} | {unseen[at]:.3f} | {neurons[code]} |"
                for at, code in enumerate(LANGUAGES)
            ),
            f"| mean | {known.mean():.3f} | {unseen.mean():.3f} | {np.mean(list(neurons.values())):.1f} |",
        )

    def start_shifts(self, limit: int, left_out: int) -> None:
        """Head of the table of ops."""
        self.add(
            "",
            "## LSS by op",
            "",
            f"Mean over all {len(LANGUAGES) * (len(LANGUAGES) - 1)} ordered pairs of languages, at most "
            f"{limit} facts a pair (of all pairs together, {left_out:,} facts with equal objects are left out).",
            "`random` edits as many neurons a layer, drawn at random. An answer is in the target language where it is",
            "likelier than that in the premise's own.",
            "",
            "| op | LSS, LAPE | LSS, random | in target, LAPE | in target, random |",
            "|---|---|---|---|---|",
        )

    def shift(self, op: Mapping[str, Any], own: Shift, drawn: Shift) -> None:
        """A row of the table of ops."""
        cells = [float(np.mean(list(pairs.values()))) for pairs in (own.lss, drawn.lss, own.flipped, drawn.flipped)]
        self.add(f"| {name_of(op)} | " + " | ".join(f"{cell:.3f}" for cell in cells) + " |")

    def targets(self, op: Mapping[str, Any], own: Shift, drawn: Shift) -> None:
        """LSS by target language under one op."""
        self.add(
            "",
            f"## By target language, {name_of(op)}",
            "",
            "Each control is a single draw: one that happens to hold a neuron of the target's own has a high LSS.",
            "",
            "| target | LSS, LAPE | LSS, random | lowest pair |",
            "|---|---|---|---|",
        )
        for target in LANGUAGES:
            lowest = min((value, base) for (base, other), value in own.lss.items() if other == target)
            self.add(
                f"| {target} | {own.mean_to(target):.3f} | {drawn.mean_to(target):.3f} | {lowest[1]} {lowest[0]:.3f} |"
            )

    def start_continuations(self, op: Mapping[str, Any]) -> None:
        """Head of the examples."""
        self.add("", f"## One prompt in several languages, {name_of(op)}, greedy")

    def continuations(self, prompt: str, rows: Iterable[tuple[str, str]]) -> None:
        """A prompt's continuations, by the language steered to."""
        self.add("", f"`{prompt}`", "", "| steered to | continuation |", "|---|---|")
        self.add(*(f"| {language} | {' '.join(text.split())} |" for language, text in rows))

    def write(self, path: Path) -> None:
        """Write the page."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as temporary:
            temporary.write_text("\n".join(self.lines) + "\n", encoding="utf-8")
