"""Fields of a request to evaluate a sweep."""

from __future__ import annotations

import pytest

from ampsweep.errors import InvalidRequest
from jobs.evaluation.request import parse_evaluation


@pytest.mark.parametrize("language", ["data_language", "fr", "por_Latn", "pt-BR", "es-419"])
def test_the_language_is_a_column_or_any_code_of_a_spec(language: str) -> None:
    assert parse_evaluation({"metrics": ["lfs"], "language": language}).language == language


def test_another_language_is_refused() -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_evaluation({"metrics": ["lfs"], "language": "fr/en"})
    assert refused.value.param == "language"
