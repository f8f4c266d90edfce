"""What `doctor --model` says of every tested family, from its config alone."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from ampsweep.cli.checks.model import _checked
from ampsweep.errors import UnsupportedModel
from ampsweep.folders.model import folder_widths
from benchmarks.models.families import TRANSFORMERS_ONLY, Family, tiny_config


@pytest.mark.processes
def test_doctor_rejects_exactly_the_families_that_vllm_does_not_run_on_a_cpu(tmp_path: Path) -> None:
    rejected = {}
    for family in get_args(Family):
        folder = tmp_path / family
        tiny_config(family).save_pretrained(folder)
        try:
            estimate = _checked(folder, dtype="float32", on_cpu=True)
        except UnsupportedModel as error:
            rejected[family] = error.message
        else:
            assert estimate.widths == folder_widths(folder), family
    assert set(rejected) == set(TRANSFORMERS_ONLY), rejected
    assert all("vLLM cannot run" in message for message in rejected.values()), rejected
