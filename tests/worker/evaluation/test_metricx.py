from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ampsweep.bundled import ATLAS_MODEL
from ampsweep.errors import InvalidRequest
from jobs.evaluation.evaluation import evaluate_texts
from jobs.evaluation.texts import StoredText
from tests.worker.evaluation.stand_ins import METRICX, installed
from worker.evaluation.metricx import MetricX

TEXT = StoredText(text="The euro", language="en", group=(), input="currency", reference="The franc")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    files = {"metricx24/__init__.py": "", "metricx24/models.py": METRICX}
    with installed(tmp_path / "site", monkeypatch, files):
        yield


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "metricx-24-large"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def tokens(text: str) -> int:
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(ATLAS_MODEL)
    return len(tokenizer(text)["input_ids"])


@pytest.mark.parametrize(
    ("with_reference", "prompt"),
    [
        (True, "source: currency candidate: The euro reference: The franc"),
        (False, "source: currency candidate: The euro"),
    ],
)
def test_the_input_is_put_together_as_the_model_was_trained(
    package: None, model: Path, with_reference: bool, prompt: str
) -> None:
    metric = MetricX(str(model), tokenizer=str(ATLAS_MODEL), with_reference=with_reference)
    assert ("reference" in metric.needs) == with_reference
    values = asyncio.run(evaluate_texts([TEXT], [metric])).groups[()]
    assert values[metric.name] == tokens(prompt) - 1  # the last token, EOS for mT5's tokenizer, is left out
    assert values[f"{metric.name}_model"].startswith("metricx-24-large sha256:")


def test_a_folder_without_a_model_or_tokenizer_is_refused(package: None, model: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="cannot be loaded as a MetricX model with its tokenizer"):
        MetricX(str(model))
    with pytest.raises(InvalidRequest, match="it has no weights"):
        MetricX(str(tmp_path))


def test_without_the_package_the_error_says_how_to_install_it(model: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"metric metricx_qe needs .*google-research/metricx"):
        MetricX(str(model), with_reference=False)
