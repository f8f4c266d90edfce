"""Reads, tokenizes and sums the sentences of a recording in its own thread.

Done in the event loop, this work would block it: for seconds while the sentences of a language that has enough tokens
are skipped, and whenever the checkpoint is written.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ampsweep.domain.neurons.layer_widths import LayerWidths
from ampsweep.folders.corpus import Sentence
from engine.identify.batches import in_batches, run_in
from engine.identify.record_request import RecordRequest
from engine.identify.recorder import AdmittedSentence, Recorder
from engine.identify.stats import ActivationStats
from engine.tokenization import SentenceTokens, TextEncoder
from engine.vllm.requests.request_extras import RecordingArgs
from engine.vllm.worker.outputs.recorded_part import RecordedPart, join_parts, join_reached, join_residual_counts

Admitted = tuple[AdmittedSentence, SentenceTokens]


class RecordingThread:
    """A `Recorder` and the thread that it runs in; `close` ends the thread.

    Args:
        name: Name of the recording, which no other recording of the engine has.
        encoder: Tokenizes the sentences.
        widths: The layers of the model.
        request: What is recorded.
        hidden_size: Size of the residual stream.
        max_sentence_tokens: Tokens recorded of each sentence, from its start.
        grouped: Whether workers add up sentences of a language whose means are not needed, which relieves the host.
    """

    def __init__(
        self,
        name: str,
        encoder: TextEncoder,
        widths: LayerWidths,
        request: RecordRequest,
        *,
        hidden_size: int,
        max_sentence_tokens: int,
        grouped: bool,
    ) -> None:
        self._name = name
        self._encoder = encoder
        self._widths = widths
        self._residual_counts = request.residual_counts
        self._grouped = grouped
        self._max_sentence_tokens = max_sentence_tokens
        self._make = partial(Recorder, widths, request, hidden_size=hidden_size)
        self._recorder: Recorder | None = None
        self._begun: dict[str, AdmittedSentence] = {}
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="recording")
        self._run = run_in(self._thread)

    async def admitted(self, sentences: Iterable[Sentence]) -> AsyncGenerator[Admitted]:
        """Yield the sentences to record, tokenized, in order."""
        self._recorder = await self._run(self._make)  # reads the checkpoint
        async for admission, tokens in in_batches(self._run, sentences, self._admit):
            yield admission, tokens

    def begin(self, key: str, admission: AdmittedSentence, tokens: SentenceTokens) -> RecordingArgs:
        """Return what records a sentence under this name."""
        self._begun[key] = admission
        in_group = self._grouped and not admission.mean_wanted
        return RecordingArgs(
            key=key,
            skip=tokens.special,
            sums=admission.mean_wanted,
            residual_counts=self._residual_counts,
            group=f"{self._name}/{admission.language}" if in_group else None,
        )

    async def add(self, parts: Sequence[RecordedPart]) -> None:
        """Add the workers' counts and sums of the same sentences to the statistics."""
        admissions = [self._begun.pop(key) for key in parts[0].keys]
        await self._run(partial(self._add, admissions, parts))

    async def finish(self) -> ActivationStats:
        """Return the statistics; see `Recorder.finish`."""
        return await self._run(self._opened.finish)

    def close(self) -> None:
        """End the thread and drop its pending work."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    @property
    def _opened(self) -> Recorder:
        assert self._recorder is not None, "`admitted` must be called first"
        return self._recorder

    def _admit(self, sentence: Sentence) -> Admitted | None:
        if self._opened.is_full(sentence.language):
            return None
        tokens = self._encoder.sentence(sentence.text, max_tokens=self._max_sentence_tokens)
        admission = self._opened.admit(sentence.language, tokens.counted)
        return None if admission is None else (admission, tokens)

    def _add(self, admissions: Sequence[AdmittedSentence], parts: Sequence[RecordedPart]) -> None:
        counts, sums, residual = join_parts(parts, self._widths)
        tokens = sum(each.tokens for each in admissions)
        reached = join_reached(parts, self._widths, tokens=tokens)
        mean = None if sums is None else _mean(sums, tokens if reached is None else reached)
        self._opened.add(
            *admissions,
            counts=counts,
            mean=mean,
            residual=residual,
            reached=reached,
            residual_counts=join_residual_counts(parts, layers=self._widths.layers),
        )


def _mean(sums: NDArray[np.float32], tokens: int | NDArray[np.int32]) -> NDArray[np.float32]:
    """Return the mean activation over the tokens that reach each neuron, NaN where there are none."""
    with np.errstate(invalid="ignore"):
        mean: NDArray[np.float32] = np.divide(sums, tokens, dtype=np.float32)
    return mean
