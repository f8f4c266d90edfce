"""Mean activations of all sentences in a file without a name."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
import pytest

from ampsweep.errors import Unavailable
from engine.identify.sentence_means import SentenceMeans


@pytest.mark.parametrize("size", [1, 4, 6, 100])
def test_what_was_added_comes_back_in_blocks_of_neurons(size: int, tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(5, 2, 3)).astype(np.float32)
    with SentenceMeans(tmp_path / "new") as means:
        for index, row in enumerate(rows):
            means.append("fr" if index % 2 else "en", row)
        blocks = dict(means.blocks(size))
    assert means.languages == ("en", "fr", "en", "fr", "en")
    assert list(blocks) == list(range(0, 6, size))
    np.testing.assert_array_equal(np.concatenate([*blocks.values()], axis=1), rows.reshape(5, 6))


def test_the_file_has_no_name(tmp_path: Path) -> None:
    with SentenceMeans(tmp_path) as means:
        means.append("en", np.ones((2, 3), dtype=np.float32))
        assert list(tmp_path.iterdir()) == []
        assert os.fstat(means._file.fileno()).st_size == 24
    assert means._file.closed


def test_without_sentences_there_is_no_block(tmp_path: Path) -> None:
    with SentenceMeans(tmp_path) as means:
        assert list(means.blocks(7)) == []


def test_a_full_disk_is_reported_with_what_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    with Path("/dev/full").open("wb", buffering=0) as full:
        monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: full)
        means = SentenceMeans()
        with pytest.raises(Unavailable, match=r"free some space on that disk; average_precision needs 1.0 MiB"):
            means.append("en", np.ones(2**18, dtype=np.float32))
    assert means.languages == ()
