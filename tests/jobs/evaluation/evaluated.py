"""Values of one group of texts, for tests that compare them with what a task or another program computes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from ampsweep.domain.languages.identifier import LanguageIdentifier
from jobs.evaluation.evaluation import evaluate_texts
from jobs.evaluation.language_metrics import LANGUAGE_METRICS
from jobs.evaluation.metric import Values
from jobs.evaluation.texts import StoredText


def evaluated(
    answers: Sequence[str],
    language: str,
    metric: str,
    *,
    identifier: LanguageIdentifier,
    english_words: frozenset[str] | None = None,
) -> Values:
    """Return the values of a language metric over answers that are meant to be in one language."""
    texts = [StoredText(text=answer, language=language, group=()) for answer in answers]
    return asyncio.run(evaluate_texts(texts, [LANGUAGE_METRICS[metric](identifier, english_words)])).groups[()]
