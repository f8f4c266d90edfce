from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from jobs.metrics.line_pass_rate import LPR, TARGET_LPR

FRENCH = "Le chat dort sur le canapé depuis ce matin."
ENGLISH = "The cat has been sleeping on the sofa since this morning."
MIXED = f"{FRENCH}\n{ENGLISH}"
SHORT = "Oui."


def samples(*answers: str, target: str | None = None) -> pa.Table:
    return pa.table(
        {
            "completion": list(answers),
            "data_language": pa.array(["en"] * len(answers), pa.string()),
            "target_language": pa.array([target] * len(answers), pa.string()),
        }
    )


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_all_lines_must_be_in_the_language() -> None:
    result = LPR.evaluate(samples(ENGLISH, ENGLISH, MIXED, FRENCH, SHORT), rng())
    assert result is not None
    assert (result.n, result.value) == (4, 0.5)
    assert result.signature == "lid.176.ftz sha256:8f3472cfe873"
    assert result.note == "the interval rests on 4 answers"


def test_an_unsteered_cell_has_no_target() -> None:
    assert TARGET_LPR.evaluate(samples(ENGLISH), rng()) is None


def test_a_steered_cell_is_compared_by_prompt() -> None:
    steered = samples(FRENCH, FRENCH, ENGLISH, SHORT, FRENCH, target="fr")
    baseline = samples(ENGLISH, FRENCH, ENGLISH, ENGLISH, SHORT)
    target = TARGET_LPR.compare(steered, baseline, rng())
    assert target.n == 3
    assert [target.value, target.baseline] == pytest.approx([2 / 3, 1 / 3])
    assert target.delta == pytest.approx(1 / 3)
    data = LPR.compare(steered, baseline, rng())
    assert data.n == 3
    assert [data.value, data.baseline] == pytest.approx([1 / 3, 2 / 3])


def test_any_of_several_targets_will_do() -> None:
    result = TARGET_LPR.compare(samples(FRENCH, ENGLISH, target="fr+en"), samples(ENGLISH, ENGLISH), rng())
    assert result.value == 1.0


def test_answers_without_a_long_line_give_no_rate() -> None:
    result = LPR.evaluate(samples(SHORT, ""), rng())
    assert result is not None
    assert (result.n, result.value, result.note) == (0, None, "no answer has a line of at least 5 words")
