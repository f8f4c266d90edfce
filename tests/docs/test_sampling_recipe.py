"""The recipe for a sampling field, followed in a copy of the packages from which the field has been removed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from benchmarks.models.families import tiny_model
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
from ampsweep.domain.generation.sampling import SamplingParams
from ampsweep.errors import InvalidRequest
from api.app import openapi_document
from api.auth.limits import Limits
from api.openai.chats.request import parse_chat
from api.openai.completions.request import parse_completion
from engine.base import GenerateRequest
from engine.hf.engine import TransformersEngine

limits = Limits()
messages = [{"role": "user", "content": "a"}]
(completion,) = parse_completion({"model": "m", "prompt": "a", "allowed_token_ids": [3]}).to_calls(limits)
chat = parse_chat({"model": "m", "messages": messages, "allowed_token_ids": [4, 5]}).to_call(limits)
(default,) = parse_completion({"model": "m", "prompt": "a"}).to_calls(limits)
text = '{"custom_id": "a", "kind": "generate", "prompt": "a", "sampling": {"allowed_token_ids": [6]}}'
line = parse(text).request(None)

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
    free = await generate(engine, ignore_eos=True)
    others = tuple({*range(50, 60)} - set(free))
    bound = await generate(engine, ignore_eos=True, allowed_token_ids=others)
    try:
        await generate(engine, allowed_token_ids=(1, 2**30))
    except InvalidRequest as error:
        unknown = error.param
    await engine.close()
    return [len(bound), set(bound) <= set(others), unknown]

schema = openapi_document()["components"]["schemas"]["ChatRequest"]["properties"]["allowed_token_ids"]
print(json.dumps({
    "calls": [call.sampling.allowed_token_ids for call in (completion, chat, default, line)],
    "refused": [
        refused(lambda: parse_completion({"model": "m", "prompt": "a", "allowed_token_ids": [-1]})),
        refused(lambda: SamplingParams(allowed_token_ids=(3, -1))),
    ],
    "schema": schema["anyOf"],
    "generated": asyncio.run(generated()),
}))
"""

NO_FIELD = """
from api.app import openapi_document
assert "allowed_token_ids" not in str(openapi_document())
"""


@pytest.mark.processes
def test_the_recipe_for_a_sampling_field_is_complete(tmp_path: Path) -> None:
    copy_packages(tmp_path)
    domain = tmp_path / "ampsweep" / "domain" / "generation" / "sampling.py"
    sampler = tmp_path / "engine" / "hf" / "sampler.py"
    field, use = textwrap.indent(FIELD, "    "), textwrap.indent(USE, "        ")
    for path, code in ((domain, field), (sampler, use)):
        replace_once(path, re.escape(code), "")
    without = [sys.executable, "-c", NO_FIELD]
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    subprocess.run(without, cwd=tmp_path, env=env, check=True)
    replace_once(domain, r"(?=^    seed: )", field)
    replace_once(sampler, r"(?=^        is_greedy = )", use)
    model = tiny_model("qwen2", tmp_path / "model")
    run = [sys.executable, "-c", USE_THE_FIELD, str(model)]
    used = json.loads(subprocess.run(run, cwd=tmp_path, env=env, stdout=subprocess.PIPE, text=True, check=True).stdout)
    item = {"exclusiveMaximum": 2**31, "minimum": 0, "type": "integer"}
    assert used == {
        "calls": [[3], [4, 5], None, [6]],
        "refused": ["allowed_token_ids.0", "allowed_token_ids.1"],
        "schema": [{"items": item, "maxItems": 1024, "minItems": 1, "type": "array"}, {"type": "null"}],
        "generated": [8, True, "allowed_token_ids.1"],
    }
