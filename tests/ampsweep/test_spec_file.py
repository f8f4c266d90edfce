from __future__ import annotations

from pathlib import Path

import pytest

from ampsweep.spec_file import read_spec


@pytest.mark.parametrize("text", ['{"name": "é", "seed": 3}', "name: é\nseed: 3\n"])
def test_a_byte_order_mark_at_the_head_changes_nothing(tmp_path: Path, text: str) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(text, encoding="utf-8-sig")
    assert read_spec(path) == {"name": "é", "seed": 3}
