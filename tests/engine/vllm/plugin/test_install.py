"""The entry point: what it costs without neurons, and how the wrappers treat engines that are not steered."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncGenerator
from importlib.metadata import EntryPoint
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from ampsweep import vllm_plugin
from ampsweep.errors import InvalidRequest
from engine.vllm.plugin import install
from tests.engine.vllm.plugin.vllm_server import GROUP, ROOT, entry_points


def test_the_entry_point_names_the_plug_in() -> None:
    ((name, value),) = entry_points().items()
    assert EntryPoint(name, value, GROUP).load() is vllm_plugin.register


@pytest.mark.processes
def test_without_neurons_next_to_nothing_is_imported() -> None:
    """Every process of vLLM loads the plug-in; without neurons, that costs three small modules of this project."""
    code = (
        "import os, sys; before = set(sys.modules); from ampsweep.vllm_plugin import register; register(); "
        "print(*sorted(set(sys.modules) - before))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
    )
    imported = [name for name in answer.stdout.split() if name.split(".")[0] not in sys.stdlib_module_names]
    assert imported == ["ampsweep", "ampsweep.version", "ampsweep.vllm_plugin"]


def test_neurons_install_the_plug_in_and_a_shadowed_package_stops_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    installed: list[bool] = []
    monkeypatch.setattr(install, "install", lambda: installed.append(True))
    monkeypatch.delenv("AMPSWEEP_NEURONS", raising=False)
    vllm_plugin.register()
    assert not installed
    monkeypatch.setenv("AMPSWEEP_NEURONS", "neurons")
    vllm_plugin.register()
    assert installed == [True]

    def shadowed() -> None:
        raise InvalidRequest("package 'engine' is imported from elsewhere")

    monkeypatch.setattr("ampsweep.own_packages.require_own_packages", shadowed)
    with pytest.raises(InvalidRequest, match="elsewhere"):
        vllm_plugin.register()


def test_a_method_is_wrapped_once() -> None:
    class Owner:
        def method(self) -> int:
            return 1

    def plus_one(original: Any) -> Any:
        return lambda self: original(self) + 1

    for _ in range(3):
        install._wrap(Owner, "method", plus_one)
    assert Owner().method() == 2


def test_an_engine_without_the_plug_in_runs_as_before() -> None:
    """Wrapped classes serve the engines of the product too, in the same process."""
    config = SimpleNamespace(additional_config={"ampsweep": {"slots": 3}})
    calls: list[tuple[Any, ...]] = []

    def original(self: Any, *args: Any, **kwargs: Any) -> str:
        calls.append((*args, *kwargs.values()))
        return "result"

    owner: Any = SimpleNamespace(vllm_config=config)
    for wrapper in (install._with_front_end, install._admitting, install._with_metrics):
        wrapper(original)(owner, config, 1)
    assert install._steered(original)(owner, 2) == "result"
    assert install._with_neurons(original)(owner, config) == "result"
    assert install._tested(original)(owner) == "result"
    install._recording(original)(owner, object(), None, engine_idx=1)
    assert len(calls) == 7
    assert owner.ampsweep is None


def test_only_a_steered_request_that_ended_because_of_nan_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusal(Exception):
        def __init__(self, message: str, *, parameter: str) -> None:
            super().__init__(f"{parameter}: {message}")

    for name, members in {"vllm": {}, "vllm.exceptions": {"VLLMValidationError": Refusal}}.items():
        module = ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)
    closed: list[bool] = []

    async def generate(_self: object, prompt: Any, _params: object, _request_id: str) -> AsyncGenerator[Any]:
        try:
            for reason, stop_reason in prompt:
                yield SimpleNamespace(outputs=[SimpleNamespace(finish_reason=reason, stop_reason=stop_reason)])
        finally:
            closed.append(True)

    async def reasons(prompt: Any, extra_args: dict[str, str] | None) -> list[str | None]:
        outputs = wrapped(None, prompt, SimpleNamespace(extra_args=extra_args), "1")
        return [output.outputs[0].finish_reason async for output in outputs]

    wrapped, steered = install._raising_overflow(generate), {"ampsweep": "{}"}
    overflowed = [(None, None), ("error", "too strong")]
    with pytest.raises(Refusal, match=r"vllm_xargs\.ampsweep: too strong"):
        asyncio.run(reasons(overflowed, steered))
    assert closed == [True]
    assert asyncio.run(reasons([(None, None), ("error", None)], steered)) == [None, "error"], "another error is vLLM's"
    assert asyncio.run(reasons([(None, None), ("stop", "a word")], steered)) == [None, "stop"]
    for extra_args in (None, {}, {"other": "x"}):
        assert asyncio.run(reasons(overflowed, extra_args)) == [None, "error"]
