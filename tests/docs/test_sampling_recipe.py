"""The recipe for a sampling field, followed in a copy of the packages."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from benchmarks.tiny_models import tiny_model
from tests.docs.pages import ROOT
from tests.docs.test_contributing import copy_packages, replace_once

RECIPE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("### Add a sampling field\n")[2]
FIELD, USE = (
    textwrap.dedent(code)
    for code in re.findall(r"^   ```python\n(.*?)^   ```$", RECIPE.partition("\n### ")[0], re.M | re.S)
)
USE_THE_FIELD = """
import asyncio, json, sys
from pathlib import Path
from ampsweep.cli.commands.batch_line import parse
from ampsweep.domain.sampling import SamplingParams
from ampsweep.errors import InvalidRequest
from api.app import openapi_document
from api.auth.limits import Limits
from api.openai.requests import parse_chat, parse_completion
from engine.base import GenerateRequest
from engine.hf.engine import TransformersEngine

limits = Limits()
messages = [{"role": "user", "content": "a"}]
(completion,) = parse_completion({"model": "m", "prompt": "a", "min_tokens": 3}).to_calls(limits)
chat = parse_chat({"model": "m", "messages": messages, "min_tokens": 4}).to_call(limits)
(default,) = parse_completion({"model": "m", "prompt": "a"}).to_calls(limits)
line = parse('{"custom_id": "a", "kind": "generate", "prompt": "a", "sampling": {"min_tokens": 5}}').request(None)

def refused(call):
    try:
        call()
    except InvalidRequest as error:
        return error.param

async def generate(engine, **sampling):
    request = GenerateRequest(prompt="The end is", sampling=SamplingParams(max_tokens=8, **sampling))
    return [token async for chunk in engine.generate(request) for token in chunk.token_ids]

async def generated():
    engine = TransformersEngine(Path(sys.argv[1]))
    free = await generate(engine)
    engine._model.model.generation_config.eos_token_id = free[0]
    tokens = [await generate(engine), await generate(engine, min_tokens=4)]
    await engine.close()
    return [len(tokens[0]), len(tokens[1]) >= 4 and free[0] not in tokens[1][:4]]

schema = openapi_document()["components"]["schemas"]["ChatRequest"]["properties"]["min_tokens"]
print(json.dumps({
    "calls": [call.sampling.min_tokens for call in (completion, chat, default, line)],
    "refused": [
        refused(lambda: parse_completion({"model": "m", "prompt": "a", "min_tokens": -1})),
        refused(lambda: SamplingParams(min_tokens=-1)),
    ],
    "schema": schema["anyOf"],
    "generated": asyncio.run(generated()),
}))
"""


@pytest.mark.processes
def test_the_recipe_for_a_sampling_field_is_complete(tmp_path: Path) -> None:
    copy_packages(tmp_path)
    replace_once(tmp_path / "ampsweep" / "domain" / "sampling.py", r"(?=^    seed: )", textwrap.indent(FIELD, "    "))
    replace_once(
        tmp_path / "engine" / "hf" / "generation.py",
        r"(?=^        token = self\._sampler\.next)",
        textwrap.indent(USE, "        "),
    )
    model = tiny_model("qwen2", tmp_path / "model")
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    run = [sys.executable, "-c", USE_THE_FIELD, str(model)]
    used = json.loads(subprocess.run(run, cwd=tmp_path, env=env, stdout=subprocess.PIPE, text=True, check=True).stdout)
    assert used == {
        "calls": [3, 4, 0, 5],
        "refused": ["min_tokens", "min_tokens"],
        "schema": [{"minimum": 0, "type": "integer"}, {"type": "null"}],
        "generated": [1, True],
    }
