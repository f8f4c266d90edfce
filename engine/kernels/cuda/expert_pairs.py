"""The pairs of a token and an expert that a router chose, sorted by expert on the device.

Nothing is read back to the host, and all shapes depend on those of the arguments alone, so a CUDA graph can contain it.
An expert that does not exist, which a router may name for padding tokens, gets no place in a tile.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

_SMALL, _LARGE = 16, 64
"""Pairs of a tile: the fewest of a matrix product of Triton, and what keeps tensor cores busy."""
MANY_PAIRS = 32
"""Pairs of an average expert from which on tiles are large."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ExpertPairs:
    """P = T * k pairs in the order of the tokens: pair p belongs to token p // k.

    Sorted by expert, and within an expert by token, each pair has a place. The places of each expert are divided into
    tiles of `tile` places, of which the last one may be part full.

    Attributes:
        experts: Number of experts, E.
        each: Experts of a token, k.
        chosen: The expert of each pair, int32 [P].
        order: The pair at each place, int32 [P].
        ends: The place after the last one of each expert, int32 [E].
        tile: Places of a tile.
        tile_ends: The tile after the last one of each expert, int32 [E].
    """

    experts: int
    each: int
    chosen: torch.Tensor
    order: torch.Tensor
    ends: torch.Tensor
    tile: int
    tile_ends: torch.Tensor

    @classmethod
    def of(cls, chosen: torch.Tensor, *, experts: int) -> ExpertPairs:
        """Sort the experts that a router chose for each token, integers [T, k]."""
        pairs = chosen.flatten().to(torch.int32)
        ascending, order = pairs.sort(stable=True)
        numbers = torch.arange(experts, dtype=torch.int32, device=chosen.device)
        ends = torch.searchsorted(ascending, numbers, right=True, out_int32=True)
        tile = _SMALL if len(pairs) < MANY_PAIRS * experts else _LARGE
        counts = torch.diff(ends, prepend=ends.new_zeros(1))
        return cls(
            experts=experts,
            each=chosen.shape[1],
            chosen=pairs,
            order=order.to(torch.int32),
            ends=ends,
            tile=tile,
            tile_ends=((counts + (tile - 1)) // tile).cumsum(0, dtype=torch.int32),
        )

    @property
    def most_tiles(self) -> int:
        """The largest number of tiles that the pairs can fill, however the router chooses."""
        pairs = len(self.chosen)
        return (pairs + min(pairs, self.experts) * (self.tile - 1)) // self.tile

    def spans(self, spans: torch.Tensor) -> torch.Tensor:
        """Return the places of adjacent tokens.

        Args:
            spans: The tokens [first, end) of each of R sentences, int32 [R, 2].

        Returns:
            The places of sentence r in expert e, in line r * E + e: int32 [R * E, 2].
        """
        total = len(self.chosen)
        order = self.order.long()
        keys = self.chosen.long()[order] * total + order
        experts = torch.arange(self.experts, device=spans.device) * total
        wanted = spans.long()[:, None, :] * self.each + experts[None, :, None]
        return torch.searchsorted(keys, wanted, out_int32=True).view(-1, 2)
