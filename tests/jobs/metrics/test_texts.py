"""The metrics of free generation, and published BLEU."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import sacrebleu

from jobs.metrics.batch_bleu import BATCH, BATCH_BLEU
from jobs.metrics.fluency import LENGTH, REPETITION, repetition
from jobs.metrics.language_share import IN_DATA, IN_TARGET
from jobs.metrics.significance import mcnemar

RNG = np.random.default_rng(3)


def identified(languages: list[str | None], target: str | None) -> pa.Table:
    count = len(languages)
    return pa.table(
        {
            "prediction": pa.array(languages, pa.string()),
            "target_language": pa.array([target] * count, pa.string()),
            "data_language": pa.array(["en"] * count, pa.string()),
        }
    )


def test_the_share_in_the_target_language_is_beside_that_of_the_same_unsteered_texts() -> None:
    plain, steered = identified(["en", "fr", None, "en"], None), identified(["fr", "fr", "en", "fr"], "fr")
    assert IN_TARGET.evaluate(plain, RNG) is None
    verdict = IN_TARGET.compare(steered, plain, RNG)
    assert (verdict.value, verdict.baseline, verdict.delta, verdict.n) == (0.75, 0.25, 0.5, 4)
    assert verdict.p_value == mcnemar(2, 0)
    own = IN_DATA.evaluate(plain, RNG)
    assert own is not None
    assert own.value == 0.5
    assert IN_DATA.compare(steered, plain, RNG).delta == -0.25


def test_of_several_languages_that_are_steered_to_any_will_do() -> None:
    steered = identified(["it", "fr", "en"], "fr+it")
    assert IN_TARGET.compare(steered, steered, RNG).value == pytest.approx(2 / 3)


def test_without_items_there_is_no_value() -> None:
    none = identified([], "fr")
    assert IN_TARGET.compare(none, none, RNG).n == 0
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
    plain = pa.table({"completion": ["a b c d e", "a b c d e"], "completion_tokens": [5, 7]})
    steered = pa.table({"completion": ["no no no no no", "a b c d e"], "completion_tokens": [9, 7]})
    assert REPETITION.compare(steered, plain, RNG).delta == pytest.approx(0.25)
    length = LENGTH.compare(steered, plain, RNG)
    assert (length.value, length.baseline, length.delta) == (8, 6, 2)


def test_published_bleu_is_the_mean_of_batches() -> None:
    words = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog"]
    gold = [" ".join(RNG.choice(words, 9)) for _ in range(2 * BATCH + 3)]
    written = [line if at % 3 else " ".join(reversed(line.split())) for at, line in enumerate(gold)]
    table = pa.table({"completion": written, "gold": gold})
    batches = [
        sacrebleu.corpus_bleu(written[at : at + BATCH], [gold[at : at + BATCH]]).score
        for at in range(0, len(gold), BATCH)
    ]
    verdict = BATCH_BLEU.compare(table, pa.table({"completion": gold, "gold": gold}), RNG)
    assert verdict.value == pytest.approx(np.mean(batches))
    assert verdict.baseline == pytest.approx(100)
    assert verdict.value != pytest.approx(sacrebleu.corpus_bleu(written, [gold]).score)
