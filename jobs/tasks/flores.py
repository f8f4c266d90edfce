"""FLORES: translation from English into a language, written greedily up to the end of the line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ampsweep.domain.languages import ENGLISH_NAMES
from jobs.cell import TaskRef
from jobs.data.texts import Text, read_aligned, read_texts, text_files
from jobs.metrics.base import Metric
from jobs.metrics.batch_bleu import BATCH_BLEU
from jobs.metrics.corpus_score import BLEU_13A, BLEU_FLORES200, CHRF_PLUS
from jobs.sample import Sample
from jobs.tasks.base import Item, ItemSet
from jobs.tasks.file_task import FileTask
from jobs.tasks.requests import Answer, GenerateCall
from jobs.tasks.scoring import failed_sample, scored_sample

SOURCE = "en"
NEW_TOKENS = 256
"""Tokens of a translation, at most."""
PAPER_TOKENS = 50
"""So many the published code writes, whatever comes; nothing but the end-of-sequence token stops it."""


class Flores(FileTask):
    """An English sentence to be translated into the data's language; `gold` is the translation there is.

    `targeted` tells whether the prompt names the language: where it does not, only the steering can. A limit takes the
    first sentences, which are the same in every language.

    In the mode `paper` lines do not end a translation, only PAPER_TOKENS do, a space ends the prompt that names no
    language, and BLEU is a mean over batches.
    """

    version = 2
    needs_target_language = False
    default_data = "flores200"
    default_split = "devtest"

    def __init__(self, *, targeted: bool, paper: bool = False) -> None:
        self.name = "flores" if targeted else "flores_untargeted"
        self.metrics: tuple[Metric, ...] = (BATCH_BLEU,) if paper else (BLEU_FLORES200, BLEU_13A, CHRF_PLUS)
        self._targeted = targeted
        self._paper = paper

    def languages(self, folder: Path, split: str | None) -> frozenset[str]:
        """Return the languages, other than English, that have a file of the split and a name to ask for."""
        known = set(self._files(folder, split)) & set(ENGLISH_NAMES)
        return frozenset(known - {SOURCE}) if SOURCE in known else frozenset()

    def files(self, folder: Path, split: str | None, language: str) -> list[Path]:
        """Return the English file and that of the language."""
        files = self._files(folder, split)
        return [files[SOURCE], files[language]]

    def repairs(self, folder: Path, ref: TaskRef) -> Mapping[str, int]:
        """Return what the reader does to the texts; those that are not aligned are refused."""
        source, target = self.files(folder, ref.split, ref.data_language)
        read_aligned(source, target)
        return read_texts(target).repairs

    def items(self, folder: Path, ref: TaskRef, *, seed: int) -> ItemSet:
        """Make an item of each of the first `limit` sentences."""
        del seed
        pairs = read_aligned(*self.files(folder, ref.split, ref.data_language))[: ref.limit]
        items = [self._item(source, translation, ref.data_language) for source, translation in pairs]
        return ItemSet(items=tuple(items), left_out=0)

    def sample(self, item: Item, answers: Sequence[Answer]) -> Sample:
        """Keep what was written, without the white space around it."""
        if (sample := failed_sample(item, answers)) is not None:
            return sample
        (answer,) = answers
        text = answer.text or ""
        return scored_sample(item, answers, completion=text if self._paper else text.strip(), gold=item.meta["gold"])

    def _files(self, folder: Path, split: str | None) -> dict[str, Path]:
        return text_files(folder, split or self.default_split, default=self.default_split)

    def _item(self, source: Text, translation: Text, language: str) -> Item:
        sentence = source.text
        if self._targeted:
            name = ENGLISH_NAMES[language]
            prompt = f"Translate from English to {name}.\n\nEnglish: {sentence}\n{name}:"
        else:
            prompt = f"Translate from English into the target language.\n\nEnglish: {sentence}\nTarget language:"
        if self._paper:
            call = GenerateCall(prompt=prompt + ("" if self._targeted else " "), max_tokens=PAPER_TOKENS)
        else:
            call = GenerateCall(prompt=prompt, max_tokens=NEW_TOKENS, stop=("\n",))
        return Item(doc_id=str(source.at), calls=(call,), meta={"gold": translation.text})
