"""The metrics of free generation, and published BLEU."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import sacrebleu

from jobs.metrics.corpus.batch_bleu import BATCH, BATCH_BLEU
from jobs.metrics.fluency import LENGTH, REPETITION, repetition
from jobs.statistics.wilson import wilson

RNG = np.random.default_rng(3)


def test_without_items_there_is_no_value() -> None:
    empty = pa.table({"completion": pa.array([], pa.string()), "gold": pa.array([], pa.string())})
    assert (BATCH_BLEU.evaluate(empty, RNG).value, BATCH_BLEU.compare(empty, empty, RNG).n) == (None, 0)


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("one two three", 0.0),
        ("a b c d e f g h", 0.0),
        ("a b c d a b c d", 1 / 5),  # five 4-grams, of which abcd stands twice
        ("no no no no no no no no", 4 / 5),
        ("哈哈哈哈哈哈", 2 / 3),
        ("猫坐在椅子上看着鸟", 0.0),
        ("", 0.0),
    ],
)
def test_repetition_is_the_share_of_fourgrams_that_were_there_before(text: str, share: float) -> None:
    assert repetition(text) == pytest.approx(share)


def test_repetition_and_length_are_compared_pair_by_pair() -> None:
    ids = {"doc_id": ["0", "1"]}
    plain = pa.table({**ids, "completion": ["a b c d e", "a b c d e"], "completion_tokens": [5, 7]})
    steered = pa.table({**ids, "completion": ["no no no no no", "a b c d e"], "completion_tokens": [9, 7]})
    assert REPETITION.compare(steered, plain, RNG).delta == pytest.approx(0.25)
    length = LENGTH.compare(steered, plain, RNG)
    assert (length.value, length.baseline, length.delta) == (8, 6, 2)


def test_the_mean_length_of_several_answers_is_over_items() -> None:
    plain = pa.table({"doc_id": ["0", "0", "1", "1"], "completion_tokens": [5, 7, 1, 1]})
    steered = pa.table({"doc_id": ["0", "0", "1", "1"], "completion_tokens": [9, 7, 2, 4]})
    evaluated, compared = LENGTH.evaluate(plain, RNG), LENGTH.compare(steered, plain, RNG)
    assert (evaluated.n, evaluated.value) == (2, 3.5)
    assert (compared.n, compared.value, compared.delta) == (2, 5.5, 2.0)
    assert (compared.delta_ci_low, compared.delta_ci_high) == (2.0, 2.0)


def test_the_interval_of_texts_without_repetition_has_a_width_but_not_that_of_equal_lengths() -> None:
    texts = pa.table({"doc_id": list("abcd"), "completion": ["a b c d e"] * 4, "completion_tokens": [1] * 4})
    repeated, length = REPETITION.evaluate(texts, RNG), LENGTH.evaluate(texts, RNG)
    assert (repeated.ci_low, repeated.ci_high) == wilson(0.0, 4)
    assert (length.ci_low, length.ci_high) == (1.0, 1.0)


def test_published_bleu_is_the_mean_of_batches() -> None:
    words = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog"]
    gold = [" ".join(RNG.choice(words, 9)) for _ in range(2 * BATCH + 3)]
    written = [line if index % 3 else " ".join(reversed(line.split())) for index, line in enumerate(gold)]
    table = pa.table({"completion": written, "gold": gold})
    batches = [
        sacrebleu.corpus_bleu(written[index : index + BATCH], [gold[index : index + BATCH]]).score
        for index in range(0, len(gold), BATCH)
    ]
    result = BATCH_BLEU.compare(table, pa.table({"completion": gold, "gold": gold}), RNG)
    assert result.value == pytest.approx(np.mean(batches))
    assert result.baseline == pytest.approx(100)
    assert result.value != pytest.approx(sacrebleu.corpus_bleu(written, [gold]).score)
