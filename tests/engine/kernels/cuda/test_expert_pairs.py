"""The places, tiles and spans of pairs, compared with lists made pair by pair."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.kernels.cuda import expert_pairs
from engine.kernels.cuda.expert_pairs import ExpertPairs

EXPERTS, EACH = 5, 2
choices = st.lists(st.permutations(range(EXPERTS)).map(lambda order: order[:EACH]), min_size=1, max_size=40)


@given(chosen=choices, missing=st.integers(0, 3))
def test_each_expert_has_its_pairs_in_the_order_of_the_tokens(chosen: list[list[int]], missing: int) -> None:
    """Padding tokens at the end may have an expert that does not exist."""
    chosen = [*chosen, *[[EXPERTS, EXPERTS + 7]] * missing]
    pairs = ExpertPairs.of(torch.tensor(chosen), experts=EXPERTS)
    flat = [expert for experts in chosen for expert in experts]
    begin = 0
    for expert, end in enumerate(pairs.ends.tolist()):
        assert pairs.order[begin:end].tolist() == [pair for pair, other in enumerate(flat) if other == expert]
        begin = end
    assert begin == len(flat) - EACH * missing
    assert pairs.chosen.tolist() == flat


@given(chosen=choices, first=st.integers(0, 40), length=st.integers(0, 40))
def test_the_tokens_of_a_sentence_are_adjacent_in_each_expert(chosen: list[list[int]], first: int, length: int) -> None:
    first = min(first, len(chosen))
    end = min(first + length, len(chosen))
    pairs = ExpertPairs.of(torch.tensor(chosen), experts=EXPERTS)
    spans = pairs.spans(torch.tensor([[0, 0], [first, end]], dtype=torch.int32))
    assert (spans.shape, spans.dtype) == ((2 * EXPERTS, 2), torch.int32)
    for row, (begin, after) in enumerate(spans.tolist()):
        sentence, expert = divmod(row, EXPERTS)
        tokens = [pair // EACH for pair in pairs.order[begin:after].tolist()]
        expected = [token for token in range(first, end) if sentence and expert in chosen[token]]
        assert tokens == expected


@pytest.mark.parametrize(("many", "tile"), [(32, 16), (1, 64)])
def test_tiles_cover_every_expert_and_their_number_is_limited_by_the_shapes(
    many: int, tile: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expert_pairs, "MANY_PAIRS", many)
    for tokens in (5, 40, 77):
        for chosen in ([[0, 1]] * tokens, [[token % EXPERTS, (token + 1) % EXPERTS] for token in range(tokens)]):
            pairs = ExpertPairs.of(torch.tensor(chosen), experts=EXPERTS)
            counts = [sum(experts.count(expert) for experts in chosen) for expert in range(EXPERTS)]
            tiles = [-(-count // tile) for count in counts]
            assert pairs.tile == tile
            assert pairs.tile_ends.tolist() == [sum(tiles[: expert + 1]) for expert in range(EXPERTS)]
            assert sum(tiles) <= pairs.most_tiles <= sum(tiles) + EXPERTS
