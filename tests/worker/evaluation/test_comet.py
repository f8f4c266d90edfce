from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from ampsweep.errors import InvalidRequest
from ampsweep.hashing import file_hash
from jobs.evaluation.evaluation import evaluate_texts
from jobs.evaluation.texts import StoredText
from tests.worker.evaluation.stand_ins import COMET, installed
from worker.evaluation.comet import Comet

TEXTS = [
    StoredText(text="Hallo", language="de", group=(), input="Hello", reference="Hallo!"),
    StoredText(text="", language="de", group=(), input="Bye", reference="Tschüss"),
]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with installed(tmp_path / "site", monkeypatch, {"comet/__init__.py": COMET}, distribution="unbabel-comet"):
        yield


def model(folder: Path, content: str) -> Path:
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "model.ckpt").write_text(content)
    return folder


def test_translations_are_scored_with_source_and_reference(package: None, tmp_path: Path) -> None:
    folder = model(tmp_path / "comet-da", "with references")
    metric = Comet(str(folder), gpus=0)
    assert metric.needs == {"input", "reference"}
    values = asyncio.run(evaluate_texts(TEXTS, [metric])).groups[()]
    assert values["comet"] == pytest.approx((0.16 + 0.10) / 2)
    digest = file_hash(folder / "checkpoints" / "model.ckpt")[:12]
    assert values["comet_model"] == f"{folder} sha256:{digest}, unbabel-comet 2.2.7"


def test_a_model_without_references_is_given_none(package: None, tmp_path: Path) -> None:
    folder = model(tmp_path / "kiwi", "without references")
    metric = Comet(str(folder / "checkpoints" / "model.ckpt"), gpus=0)
    assert metric.needs == {"input"}
    assert [score.value for score in asyncio.run(metric.score(TEXTS))["comet"]] == pytest.approx([0.10, 0.03])
    assert metric.identity.startswith("kiwi sha256:")


def test_a_model_that_is_not_here_is_not_downloaded(
    package: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InvalidRequest, match="no COMET model Some/comet-model on this machine; download it with"):
        Comet("Some/comet-model", gpus=0)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidRequest, match=r"it has no checkpoints/model\.ckpt"):
        Comet(str(tmp_path / "empty"), gpus=0)
    with pytest.raises(InvalidRequest, match="cannot be loaded by COMET: Invalid checkpoint path"):
        Comet(str(model(tmp_path / "broken", "zeros")), gpus=0)


def test_without_the_package_the_error_says_how_to_install_it() -> None:
    with pytest.raises(InvalidRequest, match=r"metric comet needs .* run: pip install unbabel-comet"):
        Comet("Some/comet-model")
