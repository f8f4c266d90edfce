"""Changes to vLLM's engine process: texts, ids of requests, and which blocks requests share."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from engine.detokenizer import TextStream
from tests.engine.tokenizers import byte_level, name_of, sentence_piece, with_byte_fallback

pytestmark = pytest.mark.engine


def step(tokenizer: Any, ids: list[int]) -> Any:
    """Return vLLM's output for the likely tokens of one step, the first of which is sampled."""
    from vllm import SamplingParams
    from vllm.v1.engine.logprobs import LogprobsProcessor

    request: Any = SimpleNamespace(sampling_params=SamplingParams(logprobs=len(ids) - 1))
    processor = LogprobsProcessor.from_new_request(tokenizer=tokenizer, request=request)
    values = np.log(np.arange(len(ids), 0, -1) / 10, dtype=np.float32)
    output: Any = SimpleNamespace(
        new_logprobs=(np.array([ids]), values[None], np.array([1]), None),
        new_prompt_logprobs_tensors=None,
        prompt_token_id_logprobs=None,
    )
    processor.update_from_output(output)
    assert processor.logprobs is not None
    return processor.logprobs[0]


def test_an_id_unknown_to_the_tokenizer_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    from vllm.v1.engine.logprobs import LogprobsProcessor

    from engine.vllm.patches import skip_logprob_texts

    monkeypatch.setattr(LogprobsProcessor, "from_new_request", LogprobsProcessor.__dict__["from_new_request"])
    skip_logprob_texts()
    skip_logprob_texts()
    tokenizer = sentence_piece()
    unknown = len(tokenizer) + 7
    assert tokenizer.convert_ids_to_tokens([unknown]) == [None]
    entries = step(tokenizer, [unknown, 3, unknown + 1])
    assert list(entries) == [unknown, 3, unknown + 1]
    assert [entry.rank for entry in entries.values()] == [1, 1, 2]
    assert {entry.decoded_token for entry in entries.values()} == {None}


@pytest.mark.parametrize("made", [byte_level, with_byte_fallback])
@pytest.mark.parametrize(
    ("prompt", "answer", "text"),
    [
        (b"aaa\xe3\x81", b"\x82a", ["あ", "a"]),
        (b"aaaa\xe3", b"\x81\x82a", ["", "あ", "a"]),
        ("あああ".encode(), b"a\xe3\x81\x82", ["a", "", "", "あ"]),
        ("aa\ufffd".encode(), b"aa", ["a", "a"]),
        (b"\xff\xff\xff\xff\xff", b"aa", ["a", "a"]),
    ],
)
def test_an_answer_begins_after_its_prompt_whatever_its_last_character(
    made: Callable[[], Any], prompt: bytes, answer: bytes, text: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from vllm import SamplingParams
    from vllm.v1.engine.detokenizer import FastIncrementalDetokenizer

    from engine.vllm.patches import begin_texts_after_prompts

    monkeypatch.setattr(FastIncrementalDetokenizer, "__init__", FastIncrementalDetokenizer.__init__)
    begin_texts_after_prompts()
    begin_texts_after_prompts()
    tokenizer = made()
    ids, tokens = ([tokenizer.convert_tokens_to_ids(name_of(byte, made)) for byte in part] for part in (prompt, answer))
    request: Any = SimpleNamespace(request_id="1", sampling_params=SamplingParams(), prompt_token_ids=ids)
    detokenizer = FastIncrementalDetokenizer(tokenizer, request)
    assert [detokenizer.decode_next(token) for token in tokens] == text
    stream = TextStream(tokenizer, ids, ())
    assert [stream.push(token) for token in tokens] == text, "the transformers engine returns the same"


def test_requests_keep_their_ids() -> None:
    from vllm.v1.engine.input_processor import InputProcessor

    from engine.vllm.patches import keep_request_ids

    processor = object.__new__(InputProcessor)
    keep_request_ids(cast("Any", SimpleNamespace(input_processor=processor)))
    request: Any = SimpleNamespace(request_id="17", external_req_id=None)
    processor.assign_request_id(request)
    assert (request.request_id, request.external_req_id) == ("17", "17")


@pytest.mark.parametrize(
    ("extra_args", "length"),
    [(None, 64), ({}, 64), ({"ampsweep": {"steer": {}}}, 64), ({"ampsweep": {"score": {"first": 33}}}, 32)],
)
def test_a_scoring_request_reads_the_cache_up_to_the_token_before_its_first_scored_one(
    extra_args: Any, length: int
) -> None:
    from engine.vllm.patches import limit_prefix_reads

    class Manager:
        def __init__(self) -> None:
            self.coordinator: Any = SimpleNamespace(find_longest_cache_hit=lambda _hashes, longest: longest)

        def get_computed_blocks(self, request: Any) -> int:
            found: int = self.coordinator.find_longest_cache_hit((), 64)
            return found

    core: Any = SimpleNamespace(scheduler=SimpleNamespace(kv_cache_manager=Manager()))
    limit_prefix_reads(cast("Any", SimpleNamespace(engine_core=SimpleNamespace(engine_core=core))))
    request: Any = SimpleNamespace(sampling_params=SimpleNamespace(extra_args=extra_args))
    assert core.scheduler.kv_cache_manager.get_computed_blocks(request) == length


def test_blocks_of_an_answer_that_is_switched_have_hashes_of_their_own() -> None:
    from engine.vllm.patches import separate_switched_blocks

    def hasher(request: Any) -> list[bytes]:
        return [bytes(request.new_block)] if request.new_block else []

    core: Any = SimpleNamespace(request_block_hasher=hasher)
    engine: Any = SimpleNamespace(engine_core=SimpleNamespace(engine_core=core))
    separate_switched_blocks(engine)

    def hashes(extra_args: Any, *, tokens: int = 5, block: bytes = b"block") -> list[bytes]:
        params = SimpleNamespace(extra_args=extra_args)
        request = SimpleNamespace(new_block=block, num_tokens=tokens, num_prompt_tokens=4, sampling_params=params)
        hashed: list[bytes] = core.request_block_hasher(request)
        return hashed

    first, second = ({"ampsweep": {"steer": {"switch": name}}} for name in ("switch-1", "switch-2"))
    plain = [b"block"]
    unswitched: list[Any] = [None, {}, {"ampsweep": {"steer": {"switch": None}}}, {"ampsweep": {"score": {}}}]
    assert [hashes(extra_args) for extra_args in unswitched] == [plain] * 4
    assert hashes(first, tokens=4) == plain, "the prompt is shared"
    assert hashes(first, block=b"") == []
    assert hashes(first) == hashes(first)
    assert len({*plain, *hashes(first), *hashes(second), *hashes(first, block=b"other")}) == 4
    core.request_block_hasher = None
    separate_switched_blocks(engine)
    assert core.request_block_hasher is None
