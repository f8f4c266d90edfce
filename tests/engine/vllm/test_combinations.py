"""Every two choices of an intervention and of a request are exact together, in one batch that is short of everything.

The answers are compared with hooks on a Hugging Face model that follow the documentation and share no code of steering
with the product. AMPSWEEP_COMBINATION_SEEDS sets how many draws of combinations are tried (1).
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoTokenizer

from ampsweep.domain.generation.chunk import Chunk, joined_spans
from ampsweep.domain.generation.prompt import ChatMessage, Prompt, TokenIds
from ampsweep.domain.generation.sampling import SamplingParams
from ampsweep.domain.generation.structured_outputs import StructuredOutputs
from ampsweep.domain.intervention import Intervention
from benchmarks.comparisons.checksum_identifier import ChecksumIdentifier
from benchmarks.comparisons.mixed_load import random_neurons
from benchmarks.models.adapter import tiny_adapter
from benchmarks.models.families import tiny_model
from engine.base import Capture, CaptureRequest, Engine, GenerateRequest, Score, ScoreRequest, Steering
from engine.capture.selection import NeuronSelection
from engine.hf.engine import TransformersEngine
from engine.neurons.neuron_set import NeuronSet
from engine.vllm.engine import VllmEngine
from tests.all_pairs import Chosen, all_pairs
from tests.engine.both_engines import CHAT_TEMPLATE, Both
from tests.engine.combinations import INTERVENTION, SWITCHED, intervention, is_valid, overlapping_neurons
from tests.engine.plain_model import PlainModel
from tests.engine.plain_rules import Rules, in_form, strengths_of, switched_on
from tests.engine.vllm.pressure import BLOCK_BYTES, SETTINGS, preempted

pytestmark = [
    pytest.mark.engine,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings(
        "ignore:max_rollback_tokens is deprecated:DeprecationWarning"
    ),  # vLLM's call of xgrammar
]

SEEDS = range(int(os.environ.get("AMPSWEEP_COMBINATION_SEEDS", "1")))
TOLERANCE = 2e-4
WORDS = "in the beginning there was the sea and the wind and the rain and then another day in the sand"
CHAT = (ChatMessage(role="user", content="is it the end?"),)
MARKED = "the thing in the end <think>"  # token ids, the last of which begins what is thought
CONTINUATION = " and then the end of it"
CAPTURED = {0: np.array([1, 5, 90]), 2: np.arange(20)}
REQUESTS: Mapping[str, dict[str, Any]] = {
    "greedy": {},
    "choices": {"n": 2, "temperature": 0.8, "seed": 7, "top_k": 5},
    "stop": {"stop": ("this never comes up", "w", "na")},
    "form": {"structured_outputs": StructuredOutputs(regex="[a-e ]{6,12}"), "ignore_eos": False},
    "penalties": {"repetition_penalty": 1.5, "frequency_penalty": 0.5, "bad_words": ("a",)},
    "prompt logprobs": {"min_tokens": 3, "stop_token_ids": (40, 50), "include_stop_str_in_output": True},
    "score": {},
    "capture": {},
}
DIMENSIONS = {name: list(choices) for name, choices in INTERVENTION.items()} | {
    "prompt": ["short", "long", "chat", "ids"],
    "request": list(REQUESTS),
    "adapter": ["none", "style"],
}
Answer = list[list[Chunk]] | Score | Capture


def goes_together(chosen: Chosen) -> bool:
    has_answer = chosen["request"] not in ("score", "capture")
    if not has_answer and chosen["tokens"] in SWITCHED:
        return False  # a given text has no running text
    if chosen["request"] == "score" and chosen["prompt"] in ("chat", "ids"):
        return False
    return is_valid(chosen)


@dataclass(frozen=True, kw_only=True)
class Site:
    """vLLM's engine with an adapter, and for each choice of `adapter` the two other implementations."""

    both: Both
    engines: Mapping[str, TransformersEngine]
    plain: Mapping[str, PlainModel]
    neurons: NeuronSet
    tokenizer: Any
    markers: tuple[int, int]
    texts: list[str]  # of the tokens; empty for special ones

    @property
    def ascii_tokens(self) -> list[int]:
        return [token for token, text in enumerate(self.texts) if text and text.isascii() and text.isprintable()]

    def tokens(self, name: str) -> list[int]:
        if name == "chat":
            messages = [message.to_dict() for message in CHAT]
            text = self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
            return list(self.tokenizer(text, add_special_tokens=False).input_ids)
        if name == "ids":
            return [*self.tokenizer(MARKED.removesuffix("<think>")).input_ids, self.markers[0]]
        return list(self.tokenizer(WORDS if name == "long" else WORDS[:22]).input_ids)

    def prompt(self, name: str) -> Prompt | TokenIds:
        texts: dict[str, Prompt] = {"chat": CHAT, "short": WORDS[:22], "long": WORDS}
        return TokenIds(tuple(self.tokens(name))) if name == "ids" else texts[name]

    def sampling(self, chosen: Chosen) -> SamplingParams:
        fields = {"max_tokens": 12, "ignore_eos": True, "top_logprobs": 3, **REQUESTS[chosen["request"]]}
        if chosen["tokens"] in SWITCHED:
            # texts of one character for each byte, in which the markers come up
            bias = dict.fromkeys(self.markers, 3.0)
            allowed = (*self.ascii_tokens, *self.markers, *((1,) if chosen["request"] == "form" else ()))
            fields |= {"max_tokens": 24, "allowed_token_ids": allowed, "logit_bias": bias}
        return SamplingParams(**fields)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("combinations")
    model = tiny_model("llama", folder / "model")
    (model / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
    _name_markers(model)
    adapter, merged = tiny_adapter(model, folder / "style", targets=["q_proj", "gate_proj", "down_proj"], seed=1)
    folders = {"none": model, "style": merged}
    engines = {name: TransformersEngine(path, open_identifier=ChecksumIdentifier) for name, path in folders.items()}
    info = engines["none"].info
    neurons = overlapping_neurons(random_neurons(info), hidden_size=info.hidden_size)
    settings = replace(SETTINGS, slots=4, max_num_seqs=6, kv_cache_bytes=9 * BLOCK_BYTES, adapters={"style": adapter})
    tokenizer = AutoTokenizer.from_pretrained(model)
    texts = ["", "", *(tokenizer.decode([token]) for token in range(2, len(tokenizer)))]
    with asyncio.Runner() as runner:
        vllm = runner.run(VllmEngine.open(model, settings=settings, open_identifier=ChecksumIdentifier))
        vllm.add_neurons(neurons)
        for other in engines.values():
            other.add_neurons(replace(neurons, fingerprint=other.info.fingerprint))
        yield Site(
            both=Both(vllm=vllm, reference=engines["none"], neurons=neurons, runner=runner),
            engines=engines,
            plain={name: PlainModel(path) for name, path in folders.items()},
            neurons=neurons,
            tokenizer=tokenizer,
            markers=(tokenizer.convert_tokens_to_ids("<think>"), tokenizer.convert_tokens_to_ids("</think>")),
            texts=texts,
        )
        opened: tuple[Engine, ...] = (vllm, *engines.values())
        for engine in opened:
            runner.run(engine.close())


def _name_markers(model: Path) -> None:
    """Give two bytes that no text has the names of the tokens around what a model thinks."""
    path = model / "tokenizer.json"
    raw = json.loads(path.read_text(encoding="utf-8"))
    vocabulary = raw["model"]["vocab"]
    for byte, name in (("ý", "<think>"), ("þ", "</think>")):
        vocabulary[name] = vocabulary.pop(byte)
    path.write_text(json.dumps(raw), encoding="utf-8")


async def answer(site: Site, engine: Engine, chosen: Chosen, raw: dict[str, Any] | None) -> Answer:
    steering = None if raw is None else Steering(intervention=Intervention.from_dict(raw), neurons=site.neurons.id)
    adapter = "style" if chosen["adapter"] == "style" and isinstance(engine, VllmEngine) else None
    prompt = site.prompt(chosen["prompt"])
    if chosen["request"] == "score":
        assert isinstance(prompt, str)
        return await engine.score(
            ScoreRequest(context=prompt, continuation=CONTINUATION, steering=steering, adapter=adapter)
        )
    if chosen["request"] == "capture":
        selection = NeuronSelection.of(CAPTURED)
        return await engine.capture(
            CaptureRequest(prompt=prompt, neurons=selection, steering=steering, prompt_tokens=9, adapter=adapter)
        )
    request = GenerateRequest(
        prompt=prompt,
        sampling=site.sampling(chosen),
        prompt_logprobs=2 if chosen["request"] == "prompt logprobs" else None,
        stream=chosen["layers"] != "one",
        steering=steering,
        adapter=adapter,
    )
    chunks: list[list[Chunk]] = [[] for _ in range(request.sampling.n)]
    async for chunk in engine.generate(request):
        chunks[chunk.index].append(chunk)
    return chunks


def check(site: Site, chosen: Chosen, raw: dict[str, Any] | None, answered: Answer) -> list[tuple[int, int]]:
    """Compare an answer with the plain model; return the spans of an answer whose text switches its steering."""
    model, prompt = site.plain[chosen["adapter"]], site.tokens(chosen["prompt"])
    rules = None if raw is None else Rules(raw, site.neurons)
    if isinstance(answered, Score):
        added = site.tokenizer(CONTINUATION, add_special_tokens=False).input_ids
        ids, count = [*prompt, *added], len(prompt)
        assert list(answered.token_ids) == added
        strengths = None if raw is None else strengths_of(raw, prompt_tokens=count, total=len(ids))
        logprobs = model.run(ids, rules, strengths).logprobs[count - 1 : -1]
        _close(answered.logprobs, [float(row[token]) for row, token in zip(logprobs, added, strict=True)])
        return []
    if isinstance(answered, Capture):
        strengths = None if raw is None else strengths_of(raw, prompt_tokens=9, total=len(prompt))
        activations = model.run(prompt, rules, strengths).activations
        for (layer, indices), values in zip(CAPTURED.items(), answered.activations, strict=True):
            _close(values, activations[layer][:, indices])
        return []
    return [span for chunks in answered for span in _check_answer(site, chosen, raw, chunks)]


def _check_answer(
    site: Site, chosen: Chosen, raw: dict[str, Any] | None, chunks: Sequence[Chunk]
) -> list[tuple[int, int]]:
    prompt, tokens = site.tokens(chosen["prompt"]), [token for chunk in chunks for token in chunk.token_ids]
    ids = [*prompt, *tokens[:-1]]
    rules = None if raw is None else Rules(raw, site.neurons)
    spans = joined_spans(chunk.steered_spans for chunk in chunks)
    strengths = None
    if raw is not None and ("when" in raw or "part" in raw):
        steered = switched_on(
            raw,
            prompt=prompt,
            answer=tokens,
            texts=[site.texts[token] for token in tokens],
            identifier=ChecksumIdentifier(),
            markers=site.markers,
        )
        reported = {token for first, end in spans or () for token in range(first, end)}
        assert reported == {index for index, on in enumerate(steered) if on}
        strengths = torch.tensor([0.0] * len(prompt) + [float(on) for on in steered[:-1]], dtype=torch.float64)
    elif raw is not None:
        assert spans is None
        strengths = strengths_of(raw, prompt_tokens=len(prompt), total=len(ids))
    computed = site.plain[chosen["adapter"]].run(ids, rules, strengths)
    _check_tokens(site, chosen, chunks, computed.logits[len(prompt) - 1 :], tokens)
    if chosen["request"] == "prompt logprobs":
        part = chunks[0].prompt
        assert part is not None
        expected = computed.logprobs[: len(prompt) - 1][range(len(prompt) - 1), prompt[1:]]
        _close([value for value in part.logprobs if value is not None], expected)
    return spans or []


def _check_tokens(site: Site, chosen: Chosen, chunks: Sequence[Chunk], logits: Tensor, tokens: list[int]) -> None:
    """Check the log-probabilities of an answer, and that its tokens are those that sampling had to choose."""
    if chosen["request"] == "form":
        assert re.fullmatch("[a-e ]{0,12}", "".join(chunk.text for chunk in chunks))
        logits = in_form(logits, tokens, site.texts, letters="abcde ", least=6, most=12, end=1)
    rows, logprobs = range(len(tokens)), logits.log_softmax(dim=-1)
    _close([value for chunk in chunks for value in chunk.logprobs], logprobs[rows, tokens])
    likeliest = [[entry.logprob for entry in top] for chunk in chunks for top in chunk.top_logprobs]
    _close(likeliest, logprobs.topk(3).values)
    if chosen["request"] == "penalties":
        return
    sampling = site.sampling(chosen)
    for token, bias in (sampling.logit_bias or {}).items():
        logits[:, token] += bias
    if sampling.allowed_token_ids is not None:
        allowed = list(sampling.allowed_token_ids)
        logits = torch.full_like(logits, -torch.inf).index_copy(1, torch.tensor(allowed), logits[:, allowed])
    ended_by = list(sampling.stop_token_ids)
    logits[: sampling.min_tokens, [1, *ended_by]] = -torch.inf
    least = logits.topk(sampling.top_k or 1).values[:, -1]
    assert (logits[rows, tokens] >= least - TOLERANCE).all(), "another token was likelier"


def _close(values: Any, expected: Any) -> None:
    np.testing.assert_allclose(np.asarray(values), np.asarray(expected), rtol=TOLERANCE, atol=TOLERANCE)


def combinations(site: Site, seed: int) -> list[tuple[Chosen, dict[str, Any] | None]]:
    """Return the drawn combinations with their interventions; a few are not steered, and a few are asked twice."""
    drawn = all_pairs(DIMENSIONS, goes_together, seed=seed)
    cases: list[tuple[Chosen, dict[str, Any] | None]] = []
    for number, chosen in enumerate(drawn):
        cases += [(chosen, intervention(chosen, site.neurons))] * (2 if number % 5 == 0 else 1)
        if number % 9 == 0:
            cases.append(({**chosen, "tokens": "all"}, None))
    return cases


@pytest.mark.parametrize("seed", SEEDS)
def test_every_two_choices_are_exact_together_in_one_batch(site: Site, seed: int) -> None:
    cases, vllm = combinations(site, seed), site.both.vllm

    async def all_at_once() -> list[Answer]:
        return await asyncio.gather(*(answer(site, vllm, *case) for case in cases))

    cached = vllm.stats().cached_tokens
    with preempted(site.both) as counts:
        answered = site.both.run(all_at_once())
    assert counts["steer"], "no request was preempted"
    assert vllm.stats().cached_tokens > cached, "the prefix cache was never read"
    assert _compare(site, cases, answered) > 10, "too few answers are switched in their middle"


@pytest.mark.parametrize("seed", SEEDS)
def test_the_reference_implementation_is_exact_too(site: Site, seed: int) -> None:
    cases = [case for case in combinations(site, seed)[::2] if case[0]["request"] != "form"]

    async def one_by_one() -> list[Answer]:
        return [await answer(site, site.engines[chosen["adapter"]], chosen, raw) for chosen, raw in cases]

    assert _compare(site, cases, site.both.run(one_by_one())) > 5, "too few answers are switched in their middle"


def _compare(site: Site, cases: Sequence[tuple[Chosen, dict[str, Any] | None]], answered: Sequence[Answer]) -> int:
    """Compare all answers with the plain models, and return how many are switched after their first token."""
    failures: list[str] = []
    choices: Counter[tuple[str, str]] = Counter()
    switched = 0
    for (chosen, raw), each in zip(cases, answered, strict=True):
        try:
            spans = check(site, chosen, raw, each)
        except AssertionError as error:
            failures.append(f"{chosen}\n{raw}\n{error}")
            choices.update(chosen.items())
        else:
            switched += any(first > 0 for first, _ in spans)
    summary = f"{len(failures)} of {len(cases)} differ, most with {choices.most_common(8)}:\n\n"
    assert not failures, summary + "\n\n".join(failures[:5])
    return switched
