"""What a recording of activations over a corpus counts and sums, and where it is saved meanwhile."""

from __future__ import annotations

from dataclasses import dataclass

from engine.identify.checkpoint import Checkpoint
from engine.identify.sentence_means import SentenceMeans
from engine.identify.tracker import RecordingTracker


@dataclass(frozen=True, kw_only=True, eq=False)
class RecordRequest:
    """A recording, all languages in one pass.

    Attributes:
        max_tokens: Maximum number of counted tokens of a language, over all of its sentences.
        checkpoint: Where progress is saved at intervals; None saves nothing. A stopped recording of the same corpus
            continues from it, with the same result.
        sentence_means: Takes the mean activations of every sentence. A checkpoint does not have them, so a recording
            has only one of the two.
        residual_counts: Whether to count also in how many tokens the residual stream is above 0, at each layer's
            output and in each dimension. It costs time and memory.
        tracker: Counts what has been recorded. Other threads may ask it for the progress.
    """

    max_tokens: int
    checkpoint: Checkpoint | None = None
    sentence_means: SentenceMeans | None = None
    residual_counts: bool = False
    tracker: RecordingTracker | None = None
