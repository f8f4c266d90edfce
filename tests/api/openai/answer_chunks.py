"""Chunks of an answer, with and without what a parser of tool calls has found."""

from __future__ import annotations

from ampsweep.domain.generation.chunk import Chunk, FinishReason
from ampsweep.domain.generation.tool_calls import CallPart, ParsedText


def chunk(text: str, finish_reason: FinishReason | None = None, *, parsed: ParsedText | None = None) -> Chunk:
    """Return a chunk of one token."""
    return Chunk(
        text=text,
        token_ids=(7,),
        token_texts=(text,),
        text_offsets=(0,),
        logprobs=(-0.5,),
        top_logprobs=((),),
        prompt_tokens=4,
        finish_reason=finish_reason,
        neuron_set="ns_1",
        parsed=parsed,
    )


def parsed(content: str = "", *calls: CallPart) -> ParsedText:
    """Return what a parser has found."""
    return ParsedText(content=content, calls=calls)


def call(index: int = 0, *, name: str | None = None, arguments: str = "", call_id: str | None = None) -> CallPart:
    """Return a part of a call."""
    return CallPart(index=index, id=call_id, name=name, arguments=arguments)


TWO_CALLS = [
    chunk("I look.", parsed=parsed("I look.")),
    chunk("<call>", parsed=parsed()),
    chunk("weather", parsed=parsed("", call(name="weather", call_id="call_1"))),
    chunk('{"city": ', parsed=parsed("", call(arguments='{"city": '))),
    chunk('"Cairo"}', parsed=parsed("", call(arguments='"Cairo"}'), call(1, name="now", arguments="{}"))),
    chunk("", "stop", parsed=parsed()),
]
"""An answer with a text and two calls, the second of which has no id of the parser's."""
