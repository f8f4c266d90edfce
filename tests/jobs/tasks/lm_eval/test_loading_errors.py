from __future__ import annotations

from typing import Any

import httpx
import pytest
from huggingface_hub.errors import HfHubHTTPError

from ampsweep.errors import DataUnavailable, InvalidRequest
from jobs.tasks.lm_eval.loading_errors import loading_error


def raised_from(cause: Exception | None) -> Exception:
    error = RuntimeError("it did not load")
    error.__cause__ = cause
    return error


def answer(status: int) -> HfHubHTTPError:
    request = httpx.Request("GET", "https://hub.test/api")
    response: Any = httpx.Response(status, request=request)
    return HfHubHTTPError("the Hub's answer", response=response)


@pytest.mark.parametrize(
    "cause", [ConnectionError("no route"), TimeoutError(), httpx.ConnectError("refused"), answer(503), answer(429)]
)
def test_an_unreachable_hub_is_named_with_the_remedy(cause: Exception) -> None:
    error = loading_error("xnli_fr", raised_from(cause))
    assert isinstance(error, DataUnavailable)
    assert (error.param, error.status, error.code) == ("name", 503, "data_unavailable")
    assert all(word in error.message for word in ("xnli_fr", "HTTPS_PROXY", "HF_ENDPOINT", "HF_HOME"))


@pytest.mark.parametrize("cause", [None, KeyError("question"), answer(404), FileNotFoundError("rows.jsonl")])
def test_other_errors_are_of_the_task(cause: Exception | None) -> None:
    error = loading_error("xnli_fr", raised_from(cause))
    assert isinstance(error, InvalidRequest)
    assert error.message == "lm-eval could not load xnli_fr: RuntimeError: it did not load"
