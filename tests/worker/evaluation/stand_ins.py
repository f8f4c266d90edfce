"""Stand-ins for packages that are not installed here, with the interface that their documentation gives."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

COMET = '''
from collections import namedtuple
from pathlib import Path

Prediction = namedtuple("Prediction", "scores system_score")


class Model:
    """Scores a translation by the number of characters of its fields."""

    def __init__(self, with_references):
        self.with_references = with_references

    def requires_references(self):
        return self.with_references

    def predict(self, samples, batch_size=16, gpus=1, progress_bar=True):
        assert (batch_size, gpus, progress_bar) == (8, 0, False)
        fields = {"src", "mt", "ref"} if self.with_references else {"src", "mt"}
        assert all(set(sample) == fields for sample in samples)
        scores = [sum(map(len, sample.values())) / 100 for sample in samples]
        return Prediction(scores, sum(scores) / len(scores))


def load_from_checkpoint(checkpoint_path, reload_hparams=False, strict=False, local_files_only=False):
    assert local_files_only
    content = Path(checkpoint_path).read_text()
    if content not in ("with references", "without references"):
        raise Exception(f"Invalid checkpoint path: {checkpoint_path}")
    return Model(content == "with references")
'''

METRICX = '''
from types import SimpleNamespace

import torch


class MT5ForRegression(torch.nn.Module):
    """Predicts the number of tokens of the input."""

    device = torch.device("cpu")

    @classmethod
    def from_pretrained(cls, folder, local_files_only=False):
        assert local_files_only
        return cls()

    def forward(self, input_ids, attention_mask):
        assert input_ids.shape == attention_mask.shape
        return SimpleNamespace(predictions=torch.tensor([float(input_ids.shape[1])]))
'''


@contextmanager
def installed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], *, distribution: str | None = None
) -> Iterator[None]:
    """Put modules on the import path, and the metadata of their distribution, version 2.2.7."""
    packages = {name.split("/")[0] for name in files}
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")
    if distribution is not None:
        info = folder / f"{distribution.replace('-', '_')}-2.2.7.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 2.2.7\n")
    monkeypatch.syspath_prepend(str(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] in packages]:
            del sys.modules[name]
