"""Which tokens of a sequence an intervention edits, and how strongly: its scope and `tokens`, as positions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ampsweep.domain.intervention import Intervention

NO_END = np.iinfo(np.int64).max


@dataclass(frozen=True, kw_only=True)
class TokenScope:
    """The edited tokens of one sequence of a prompt and the tokens generated after it.

    Attributes:
        first: Position of the first edited token.
        end: Position after the last edited token; `NO_END` if every later one is edited.
        positions: The only edited tokens between the two, ascending; None for all of them.
        decay: What the strength of the edit is multiplied by at each token after the first edited one.
    """

    first: int = 0
    end: int = NO_END
    positions: tuple[int, ...] | None = None
    decay: float = 1.0

    @classmethod
    def of(cls, intervention: Intervention, *, prompt_tokens: int) -> TokenScope:
        """Return the scope of an intervention on a sequence whose first `prompt_tokens` tokens are the prompt."""
        first = prompt_tokens if intervention.scope == "generation" else 0
        end = prompt_tokens if intervention.scope == "prompt" else NO_END
        if (tokens := intervention.tokens) is None:
            return cls(first=first, end=end)

        decay = 1.0 if tokens.decay is None else tokens.decay

        def in_sequence(position: int) -> int:
            return (first if position >= 0 else end) + position

        if tokens.positions is not None:
            edited = sorted({position for position in map(in_sequence, tokens.positions) if first <= position < end})
            start, stop = min(edited, default=first), max(edited, default=first - 1) + 1
            return cls(first=start, end=stop, positions=tuple(edited), decay=decay)
        start = max(in_sequence(tokens.start or 0), first)
        return cls(first=start, end=end if tokens.end is None else min(in_sequence(tokens.end), end), decay=decay)

    def strengths(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return how strongly the token at each position is edited, float32 of the same shape; 0 where it is not."""
        inside = (positions >= self.first) & (positions < self.end)
        if self.positions is not None:
            inside &= np.isin(positions, self.positions)
        strengths = self.decay ** np.maximum(positions - self.first, 0)
        return np.where(inside, strengths, 0.0).astype(np.float32)


EVERY_TOKEN = TokenScope()
