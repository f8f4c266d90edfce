"""The pages on models, neurons, languages and on keeping one: every command works with a copy of the bundled model."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from ampsweep.bundled import ATLAS_CORPUS, ATLAS_MODEL
from engine.vllm.plugin.configuration import PRESETS, read_presets
from tests.docs.pages import DOCS
from tests.docs.shell import run_page

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

LANGUAGES = ("en", "fr", "id", "ja", "ru", "tr")
LAYERS = 4
NEURONS = [[torch.tensor([3, 9]), *[torch.tensor([]).long()] * (LAYERS - 1)] for _ in range(3)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What the pages take for granted: a model and a corpus."""
    shutil.copytree(ATLAS_MODEL, tmp_path / "models" / "mine")
    (tmp_path / "corpus").mkdir()
    for code in LANGUAGES:
        shutil.copy(ATLAS_CORPUS / f"{code}.txt.gz", tmp_path / "corpus")
    return tmp_path


def test_a_model(folder: Path) -> None:
    lines = run_page(DOCS / "bring-a-model.md", folder).splitlines()
    assert lines[0] == lines[1] != "", "the page says that both engines print the same text"
    assert any(line.startswith("fr") and "by layer" in line for line in lines)


def test_a_language(folder: Path) -> None:
    assert "de scale" in run_page(DOCS / "bring-a-language.md", folder)


def test_neuron_files(folder: Path) -> None:
    torch.save(NEURONS, folder / "qwen0.5_flores200")
    as_floats = [[indices - 0.0 for indices in layers] for layers in NEURONS]
    torch.save(as_floats, folder / "raw_act_lsn_qwen0.5.pt")
    torch.save({0: "fra_Latn", 1: "tur_Latn", 2: "eng_Latn"}, folder / "ld_flores200")
    (folder / "activation_mask").mkdir()
    torch.save(NEURONS * 7, folder / "activation_mask" / "llama-3.1-1")  # 21 languages
    printed = run_page(DOCS / "neuron-files.md", folder)
    assert (printed.count(": 6 neurons"), printed.count(": 42 neurons")) == (2, 1)
    assert '{"fr": {"0": [12, 40], "3": [7]}, "tr": {"1": [5]}}' in printed
    assert "tr scale" in printed


def test_keeping_a_language(folder: Path) -> None:
    printed = run_page(DOCS / "keep-a-language.md", folder)
    assert "Egyptian Pound" in printed
    assert "Mısır lirası" in printed
    summary = pq.read_table(folder / "keep" / "summary.parquet").to_pylist()
    steered = [row for row in summary if row["method"] == "neurons" and row["selection"] is None]
    assert {row["metric"] for row in steered} >= {"in_target_language", "in_target_language_by_line", "repetition"}
    assert {row["when"] for row in steered} == {None, "drift"}
    assert read_presets({PRESETS: str(folder / "presets.yaml")}).keys() >= {"stay-in-turkish", "start-in-turkish"}
    assert "answer_nll" in (folder / "keep.html").read_text(encoding="utf-8")
