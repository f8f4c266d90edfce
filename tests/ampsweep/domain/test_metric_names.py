from __future__ import annotations

import re
from pathlib import Path

from ampsweep.domain.metric_names import SHARES, headline_rank, is_share, metric_title
from jobs.metrics.registry import BUILT_IN_METRICS

UNBOUNDED = {"perplexity", "nll", "bleu_flores200", "bleu_13a", "chrf++", "chrf++_in_language", "length"}


def test_every_metric_is_a_share_or_not() -> None:
    assert {name for name in BUILT_IN_METRICS if not is_share(name)} == UNBOUNDED
    assert is_share("acc,none")
    assert is_share("lpr,okapi")


def test_the_web_page_knows_the_same_shares() -> None:
    script = (Path(__file__).parents[3] / "api/webui/figures/rows.js").read_text(encoding="utf-8")
    (names,) = re.findall(r"SHARES = new Set\(\[(.*?)\]\)", script, re.DOTALL)
    assert set(re.findall(r'"([^"]+)"', names)) == SHARES


def test_the_metrics_that_a_sweep_is_about_come_first() -> None:
    names = ["nll", "acc,none", "lss", "in_data_language", "lfs"]
    assert sorted(names, key=headline_rank) == ["lfs", "lss", "acc,none", "nll", "in_data_language"]


def test_a_metric_with_the_name_of_its_task_is_named_once() -> None:
    assert metric_title("lss", "lss") == "lss"
    assert metric_title("perplexity", "nll") == "log-perplexity: nll"
    assert metric_title("xcopa", "accuracy", "chat=True") == "xcopa (chat=True): accuracy"
