"""The GPU check reports a missing GPU, and measures the workload of the throughput benchmark."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks import gpu_check
from benchmarks.workload import steering


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_it_refuses_a_machine_without_cuda(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "report.json"
    assert gpu_check.main(["--out", str(out), "--runner", "v2", "--rounds", "1"]) == 2
    assert "needs a CUDA device" in capsys.readouterr().err
    assert not out.exists()


def test_a_wrong_argument_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        gpu_check.main(["--out", "x", "--runner", "v3"])
    assert "--runner" in capsys.readouterr().err


@pytest.mark.parametrize("distinct", gpu_check.DISTINCT[1:])
def test_a_batch_has_as_many_interventions_as_its_name_says(distinct: int) -> None:
    work = [("a", "b")] * gpu_check.REQUESTS
    for requests in (gpu_check.generated(work, distinct), gpu_check.scored(work, distinct)):
        assert len(requests) == gpu_check.REQUESTS
        steerings = [steering(item.intervention) for item in requests]
        assert len({one.intervention.hash for one in steerings if one is not None}) == distinct
