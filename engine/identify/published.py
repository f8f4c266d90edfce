"""Reproduces, for the mode `paper`, how the published code of the paper counts tokens when it identifies neurons.

The published code counts activations over bare sentences, but divides by the number of tokens that each sentence would
have inside the model's chat template (tauimbz/lang-task-neuron, `get_activations.py` without `--apply_template`).
"""

from __future__ import annotations

from dataclasses import replace

from ampsweep.domain.generation.prompt import ChatMessage
from ampsweep.domain.generation.sampling import SamplingParams
from ampsweep.errors import InvalidRequest
from engine.base import Engine, GenerateRequest, ScoreRequest
from engine.identify.stats import ActivationStats

UNCOUNTED = 5
"""Tokens at the end of a template, the header of the answer, that the published code subtracts."""
_SHORT_TEXT = "x"


def published_denominators(stats: ActivationStats, *, template_tokens: int) -> ActivationStats:
    """Return the statistics with `template_tokens` more `tokens` [G] for each sentence.

    Raises:
        InvalidRequest: The model is a mixture of experts, which the published code does not know.
    """
    if stats.reached is not None:
        raise InvalidRequest(
            "method lape_paper is not defined for a mixture of experts: the published code does not say which experts "
            "the template's tokens reach; use method lape",
            param="method",
        )
    return replace(stats, tokens=stats.tokens + stats.sentences * template_tokens)


async def template_tokens(engine: Engine) -> int:
    """Return how many tokens the chat template adds to a user's message, less UNCOUNTED; 0 without a template."""
    chat = GenerateRequest(
        prompt=(ChatMessage(role="user", content=_SHORT_TEXT),), sampling=SamplingParams(max_tokens=1)
    )
    try:
        prompt_tokens_seen = [chunk.prompt_tokens async for chunk in engine.generate(chat)]
    except InvalidRequest:
        return 0
    bare = await engine.score(ScoreRequest(context="", continuation=_SHORT_TEXT))
    return max(0, prompt_tokens_seen[-1] - len(bare.token_ids) - UNCOUNTED)
