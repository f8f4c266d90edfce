"""The report on the atlas: Markdown tables, printed while the numbers are computed and written at the end."""

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

The atlas is a small multilingual model that is part of the project, with the facts that it was trained on, so that
tests, examples and the demo need no download. The names in the facts come from CLDR (Unicode License v3); the sentence
templates were written for this project. The model is of no use for anything else: it knows {languages} languages, and
states facts about countries.

`python -m examples.atlas.facts` builds the facts, `python -m examples.atlas.train` trains the model, and
`python -m examples.atlas.evaluate` writes this page. Every number below comes from that run.

The model is trained to choose its language. Documents switch the language between sentences, and between a premise and
its answer. An auxiliary loss reserves a few neurons of each layer for each language. In some documents these neurons
are held on while a premise in another language is read, and the answer is in the language of the neurons (see
`examples/atlas/train.py`). Its language neurons are therefore cleaner, and steer better, than those of a model trained
on plain text. LAPE still has to find them by its unchanged rule, so the numbers show that the pipeline from
identification to LSS works. They say nothing about other models.

Use `set` or `add` with the atlas. An inactive language neuron has a small negative activation, because of SiLU; `scale`
with a factor above 1 makes it more negative and so works against the target language.
"""


def name_of(op: Mapping[str, Any]) -> str:
    """Return a short description of an op."""
    patch = f" {op['patch']} x" if "patch" in op else ""
    return f"{op['op']}{patch} {op['factor']:g}"


class Report:
    """Collects lines of Markdown."""

    def __init__(self) -> None:
        self.lines = INTRODUCTION.format(languages=len(LANGUAGES)).splitlines()

    def add(self, *lines: str) -> None:
        """Print lines and add them to the page."""
        print(*lines, sep="\n", flush=True)
        self.lines.extend(lines)

    def model(self, info: EngineInfo, parameters: int, top_rate: float) -> None:
        """Describe the model and how its neurons were identified."""
        self.add(
            "",
            f"{info.model_class}: {info.widths}, {parameters:,} parameters, "
            f"{info.dtype}. Neurons by LAPE on `ampsweep/atlas/corpus` with top_rate {top_rate:g}, filter_rate 0.95 "
            "and activation_bar 0.95.",
        )

    def languages(
        self, all_forms: NDArray[np.float64], held_out: NDArray[np.float64], neurons: Mapping[str, int]
    ) -> None:
        """Report recall and number of neurons by language; probabilities [languages] in the order of `LANGUAGES`."""
        self.add(
            "",
            "## Recall of facts, and neurons",
            "",
            "Mean probability of the correct answer after a premise: over all premises, and over those whose fact was",
            "never stated in that form during training. It cannot reach 1: some training documents switch the language",
            "at the answer, and in ja, ta, tr, vi and zh a statement begins like an equally likely question.",
            "",
            "| language | all forms | held-out forms | LAPE neurons |",
            "|---|---|---|---|",
            *(
                f"| {code} | {all_forms[index]:.3f} | {held_out[index]:.3f} | {neurons[code]} |"
                for index, code in enumerate(LANGUAGES)
            ),
            f"| mean | {all_forms.mean():.3f} | {held_out.mean():.3f} | {np.mean(list(neurons.values())):.1f} |",
        )

    def start_shifts(self, limit: int, left_out: int) -> None:
        """Start the table of ops."""
        self.add(
            "",
            "## LSS by op",
            "",
            f"Mean over all {len(LANGUAGES) * (len(LANGUAGES) - 1)} ordered pairs of languages, at most "
            f"{limit} facts for each pair (over all pairs, {left_out:,} facts with equal objects are left out).",
            "`random` edits the same number of random neurons in each layer. An answer counts as in the target",
            "language if it is likelier than the answer in the premise's language.",
            "",
            "| op | LSS, LAPE | LSS, random | in target, LAPE | in target, random |",
            "|---|---|---|---|---|",
        )

    def shift(self, op: Mapping[str, Any], lape: Shift, random: Shift) -> None:
        """Add a row to the table of ops."""
        cells = [float(np.mean(list(pairs.values()))) for pairs in (lape.lss, random.lss, lape.flipped, random.flipped)]
        self.add(f"| {name_of(op)} | " + " | ".join(f"{cell:.3f}" for cell in cells) + " |")

    def targets(self, op: Mapping[str, Any], lape: Shift, random: Shift) -> None:
        """Report the LSS of one op by target language."""
        self.add(
            "",
            f"## By target language, {name_of(op)}",
            "",
            "Each control is a single draw. If it happens to contain a neuron of the target language, its LSS is high.",
            "",
            "| target | LSS, LAPE | LSS, random | lowest pair |",
            "|---|---|---|---|",
        )
        for target in LANGUAGES:
            value, base = min((value, base) for (base, other), value in lape.lss.items() if other == target)
            means = f"{lape.mean_to(target):.3f} | {random.mean_to(target):.3f}"
            self.add(f"| {target} | {means} | {base} {value:.3f} |")

    def start_continuations(self, op: Mapping[str, Any]) -> None:
        """Start the section with examples."""
        self.add("", f"## One prompt in several languages, {name_of(op)}, greedy")

    def continuations(self, prompt: str, rows: Iterable[tuple[str, str]]) -> None:
        """Report the continuations of a prompt by the language it is steered to."""
        self.add("", f"`{prompt}`", "", "| steered to | continuation |", "|---|---|")
        self.add(*(f"| {language} | {' '.join(text.split())} |" for language, text in rows))

    def write(self, path: Path) -> None:
        """Write the page."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as temporary:
            temporary.write_text("\n".join(self.lines) + "\n", encoding="utf-8")
