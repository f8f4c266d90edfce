"""How far the recording of a corpus is, on which neurons are identified."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class RecordingProgress:
    """Progress of a recording at one moment.

    Attributes:
        language: The language that is being recorded; None before the first sentence.
        languages: Number of languages of the corpus.
        languages_done: Languages of which everything is recorded.
        tokens: Tokens recorded, with those that a checkpoint held.
        total_tokens: Tokens of the whole recording, estimated from the length of the texts; None until it is known.
        tokens_per_second: Rate since this recording was started or continued; None until it is known.
    """

    language: str | None
    languages: int
    languages_done: int
    tokens: int
    total_tokens: int | None
    tokens_per_second: float | None

    @property
    def seconds_left(self) -> float | None:
        """Estimated time until the end of the recording, in seconds; None until it is known."""
        if self.total_tokens is None or not self.tokens_per_second:
            return None
        return max(0, self.total_tokens - self.tokens) / self.tokens_per_second

    def text(self) -> str:
        """Return the progress as text, such as "finding neurons: 31 %, 2 min left"."""
        if self.total_tokens is None:
            return f"finding neurons: {self.languages_done} of {self.languages} languages done"
        parts = [f"{min(100, 100 * self.tokens // max(1, self.total_tokens))} %"]
        if (seconds := self.seconds_left) is not None:
            parts.append(f"{seconds / 60:.0f} min left" if seconds >= 90 else f"{seconds:.0f} s left")
        return f"finding neurons: {', '.join(parts)}"

    def to_dict(self) -> Mapping[str, Any]:
        """Return the progress as it is stored and sent, with `seconds_left`."""
        return {**asdict(self), "seconds_left": self.seconds_left}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> RecordingProgress:
        """Return the progress that `to_dict` made an object of."""
        return cls(**{name: value for name, value in content.items() if name in cls.__dataclass_fields__})
