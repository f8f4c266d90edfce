"""Base class of tasks that generate answers, whose sampling a spec may change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from ampsweep.domain.generation.prompt import Prompt
from ampsweep.domain.generation.sampling import SamplingParams
from ampsweep.errors import InvalidRequest
from ampsweep.hashing import content_hash
from jobs.cell import TaskRef
from jobs.tasks.base import Item
from jobs.tasks.file_task import FileTask
from jobs.tasks.requests import GenerateCall


class SampledTask(FileTask):
    """A task that asks for one or several answers to each prompt.

    Every sampled answer has a seed of its own, derived from the sweep's seed (or the task's `seed`), `doc_id` and the
    number of the answer. A cell therefore gives the same answers alone and in any batch, a steered answer is sampled
    with the random numbers of the baseline's, and the first answer is the same however many there are.

    Attributes:
        sampling: How answers are sampled where the spec does not say; its `seed` is None.
    """

    sampling: SamplingParams

    def sampling_options(self, options: Mapping[str, int | float]) -> tuple[tuple[str, int | float], ...]:
        """Return the options of a spec that differ from the task's defaults, as `TaskRef.sampling` holds them.

        Raises:
            InvalidRequest: An option is out of range, or greedy answers are asked for several times.
        """
        sampling = self._sampling(options)
        if sampling.n > 1 and sampling.temperature == 0:
            message = f"n is {sampling.n}, but with temperature 0 all answers are the same; give a temperature above 0"
            raise InvalidRequest(message, param="n")
        return tuple(sorted((name, value) for name, value in options.items() if value != getattr(self.sampling, name)))

    def ask(
        self, doc_id: str, prompt: Prompt, ref: TaskRef, *, seed: int, meta: Mapping[str, Any] | None = None
    ) -> Iterator[Item]:
        """Yield an item for each answer to a prompt.

        Args:
            doc_id: Id of the prompt, which its answers share.
            prompt: The prompt.
            ref: The reference, with the options of the spec.
            seed: The seed of the sweep.
            meta: What the task needs to score an answer.
        """
        sampling = self._sampling(dict(ref.sampling))
        for number in range(sampling.n):
            call = GenerateCall(
                prompt=prompt,
                max_tokens=sampling.max_tokens,
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                seed=_seed(seed if sampling.seed is None else sampling.seed, doc_id, number),
            )
            if not sampling.temperature:
                call = replace(call, seed=None)
            yield Item(doc_id=doc_id, answer=number if sampling.n > 1 else None, calls=(call,), meta=meta or {})

    def _sampling(self, options: Mapping[str, Any]) -> SamplingParams:
        return replace(self.sampling, **options)


def _seed(seed: int, doc_id: str, number: int) -> int:
    return int(content_hash([seed, doc_id, *([number] if number else [])], length=12), 16)
