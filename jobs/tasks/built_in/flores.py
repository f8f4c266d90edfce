"""FLORES: greedy translation from English into a language, up to the end of the line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ampsweep.domain.languages.names import english_name
from jobs.cell import TaskRef
from jobs.data.texts import Text, read_aligned, read_texts
from jobs.metrics.base import Metric
from jobs.metrics.corpus.batch_bleu import BATCH_BLEU
from jobs.metrics.corpus.corpus_score import BLEU_13A, BLEU_FLORES200, CHRF_PLUS
from jobs.metrics.corpus.language_penalty import CHRF_PLUS_IN_LANGUAGE
from jobs.sample import Sample
from jobs.tasks.base import Item, ItemSet
from jobs.tasks.file_task import TextFileTask
from jobs.tasks.requests import Answer, GenerateCall
from jobs.tasks.scoring import failed_sample, scored_sample

SOURCE = "en"
NEW_TOKENS = 256
"""Maximum number of tokens of a translation."""
PAPER_TOKENS = 50
"""Maximum number of tokens in the mode `paper`; as published, only the end-of-sequence token ends it earlier."""


class Flores(TextFileTask):
    """Translates English sentences into the data's language; `gold` is the corpus's translation.

    `targeted` tells whether the prompt names the language; if it does not, only the intervention can determine it. A
    limit takes the first sentences, which are the same in every language.

    In the mode `paper` a translation has up to PAPER_TOKENS tokens and does not end with the line, the prompt without
    a language ends in a space, and BLEU is a mean over batches.
    """

    version = 2
    language_needs = "a language needs a file in the split, beside that of English, and an English name for the prompt"

    def __init__(self, *, targeted: bool, paper: bool = False) -> None:
        self.name = "flores" if targeted else "flores_untargeted"
        corrected = (BLEU_FLORES200, BLEU_13A, CHRF_PLUS, CHRF_PLUS_IN_LANGUAGE)
        self.metrics: tuple[Metric, ...] = (BATCH_BLEU,) if paper else corrected
        self._targeted = targeted
        self._paper = paper

    def languages(self, folder: Path, split: str | None) -> frozenset[str]:
        """Return the languages, except English, that have a file in the split and, for the prompt, an English name."""
        languages = set(self._files(folder, split))
        if SOURCE not in languages:
            return frozenset()
        names = self._targeted or self._paper  # in that mode, the prompt of the baseline names the language
        return frozenset(language for language in languages - {SOURCE} if not names or english_name(language))

    def files(self, folder: Path, split: str | None, language: str) -> list[Path]:
        """Return the English file and the language's file."""
        files = self._files(folder, split)
        return [files[SOURCE], files[language]]

    def repairs(self, folder: Path, ref: TaskRef) -> Mapping[str, int]:
        """Return how many blank lines the reader leaves out; raise InvalidRequest if the files are not aligned."""
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
        """Return the translation, in the mode `paper` with the white space around it."""
        if (sample := failed_sample(item, answers)) is not None:
            return sample
        (answer,) = answers
        text = answer.text or ""
        return scored_sample(item, answers, completion=text if self._paper else text.strip(), gold=item.meta["gold"])

    def _item(self, source: Text, translation: Text, language: str) -> Item:
        sentence = source.text
        if self._targeted:
            name = english_name(language)
            prompt = f"Translate from English to {name}.\n\nEnglish: {sentence}\n{name}:"
        else:
            prompt = f"Translate from English into the target language.\n\nEnglish: {sentence}\nTarget language:"
        if self._paper:
            call = GenerateCall(prompt=prompt + ("" if self._targeted else " "), max_tokens=PAPER_TOKENS)
        else:
            call = GenerateCall(prompt=prompt, max_tokens=NEW_TOKENS, stop=("\n",))
        return Item(doc_id=str(source.index), calls=(call,), meta={"gold": translation.text, "input": sentence})
