from __future__ import annotations

from itertools import product

import pytest

from ampsweep.errors import Conflict
from jobs.store.sweep_state import SweepStateMachine
from jobs.store.transitions import CELL_MOVES, SWEEP_ENDED, SWEEP_MOVES, CellState, SweepState


def new_sweep_state(state: SweepState) -> SweepStateMachine:
    return SweepStateMachine(sweep_id="s", state=state, total=2)


@pytest.mark.parametrize(("before", "after"), list(product(SweepState, SweepState)))
def test_a_sweep_moves_only_as_the_table_says(before: SweepState, after: SweepState) -> None:
    sweep_state = new_sweep_state(before)
    if after in SWEEP_MOVES[before]:
        sweep_state.move(after, 5.0)
        assert (sweep_state.state, [event.type for event in sweep_state.pending_events]) == (after, [f"sweep.{after}"])
        assert sweep_state.ended_at == (5.0 if after in SWEEP_ENDED else None)
    else:
        with pytest.raises(Conflict, match=f"is {before}; it cannot become {after}"):
            sweep_state.move(after, 5.0)
        assert (sweep_state.state, sweep_state.pending_events) == (before, [])


def test_every_state_that_ends_a_sweep_is_known() -> None:
    assert {SweepState.COMPLETED, SweepState.FAILED, SweepState.CANCELLED} == SWEEP_ENDED


def test_a_cell_is_completed_only_under_a_lease() -> None:
    assert {state for state, moves in CELL_MOVES.items() if CellState.COMPLETED in moves} == {CellState.LEASED}
