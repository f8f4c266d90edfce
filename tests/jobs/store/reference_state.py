"""Cells, sweeps and fair share of the reference store; see `reference_store`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ampsweep.errors import NotFound
from jobs.cell import Cell
from jobs.store.records import (
    CellFile,
    CellRecord,
    Event,
    Page,
    RequestCounts,
    StoreStats,
    SweepFiles,
    SweepLease,
    SweepRecord,
)
from jobs.store.transitions import CellState, SweepState

Record = TypeVar("Record", SweepRecord, CellRecord)


@dataclass(kw_only=True, eq=False)
class ReferenceCell:
    cell: Cell
    state: CellState = CellState.PENDING
    failures: int = 0  # attempts that failed, without the present one
    expiries: int = 0
    quarantined: bool = False
    epoch: int = 0
    owner: str = ""
    expires_at: float = 0.0
    error: str | None = None
    file: CellFile | None = None
    progress: int = 0

    @property
    def samples(self) -> int:
        if self.state is CellState.COMPLETED:
            assert self.file is not None
            return self.file.rows
        return self.progress if self.state is CellState.LEASED else 0

    @property
    def failed_samples(self) -> int:
        return self.file.failed_samples if self.file is not None else 0

    @property
    def attempts(self) -> int:
        return self.failures + (self.state in (CellState.LEASED, CellState.COMPLETED))

    def record(self) -> CellRecord:
        file = self.file
        return CellRecord(
            cell=self.cell,
            state=self.state,
            attempts=self.attempts,
            error=self.error,
            file=None if file is None else file.name,
            rows=None if file is None else file.rows,
            sha256=None if file is None else file.sha256,
            samples=self.samples,
            failed_samples=self.failed_samples,
            sample_error=None if file is None else file.sample_error,
        )


@dataclass(kw_only=True, eq=False)
class ReferenceSweep:
    id: str
    name: str
    spec: Mapping[str, Any]
    key: str | None
    owner: str
    priority: int
    warnings: tuple[str, ...]
    created_at: float
    cells: list[ReferenceCell]
    reused: int
    model: str
    tags: tuple[str, ...] = ()
    deleted: bool = False
    state: SweepState = SweepState.IN_PROGRESS
    served_at: float = 0.0
    ended_at: float | None = None
    expired_at: float | None = None
    error: str | None = None
    files: SweepFiles | None = None
    leases: list[SweepLease] = field(default_factory=list)  # all there ever were; the last one may count
    lease_ends_at: float | None = None  # None where none counts
    events: list[Event] = field(default_factory=list)
    frozen: tuple[RequestCounts, int, int] | None = None  # counts, samples and failed samples at its end

    @property
    def ended(self) -> bool:
        return self.ended_at is not None

    @property
    def all_done(self) -> bool:
        return all(cell.state in (CellState.COMPLETED, CellState.FAILED) for cell in self.cells)

    def number(self, state: CellState) -> int:
        return sum(cell.state is state for cell in self.cells)

    def counted(self) -> tuple[RequestCounts, int, int]:
        if self.frozen is not None:
            return self.frozen
        counts = RequestCounts(
            total=len(self.cells),
            completed=self.number(CellState.COMPLETED),
            failed=self.number(CellState.FAILED),
            reused=self.reused,
        )
        samples = sum(cell.samples for cell in self.cells)
        return counts, samples, sum(cell.failed_samples for cell in self.cells)

    def record(self) -> SweepRecord:
        counts, samples, failed_samples = self.counted()
        return SweepRecord(
            id=self.id,
            name=self.name,
            state=self.state,
            spec=self.spec,
            request_counts=counts,
            created_at=self.created_at,
            ended_at=self.ended_at,
            error=self.error,
            owner=self.owner,
            priority=self.priority,
            samples=samples,
            failed_samples=failed_samples,
            files=self.files,
            expired_at=self.expired_at,
            warnings=self.warnings,
            tags=self.tags,
        )

    def can_be_leased(self, now: float) -> bool:
        free = self.lease_ends_at is None or self.lease_ends_at <= now
        return self.state is SweepState.FINALIZING and free

    def is_held_under(self, lease: SweepLease) -> bool:
        return self.lease_ends_at is not None and lease == self.leases[-1]

    def tell(self, kind: str, now: float, **data: Any) -> None:
        counts, samples, failed_samples = self.counted()
        full = {
            "status": self.state.value,
            "request_counts": vars(counts),
            "samples": samples,
            "failed_samples": failed_samples,
            **data,
        }
        last = self.events[-1].id if self.events else 0
        event = Event(id=last + 1, sweep_id=self.id, type=kind, data=full, created_at=now)
        self.events.append(event)


def choose_cells(
    sweeps: Sequence[ReferenceSweep], models: Sequence[str], limit: int
) -> list[tuple[ReferenceSweep, ReferenceCell]]:
    """Choose cell after cell: by priority, then by the owner's and the sweep's cells in flight, then by the wait.

    What ran before this call is counted in every sweep that needs it; what is chosen now, for whose turn it was.
    """
    in_progress = [sweep for sweep in sweeps if sweep.state is SweepState.IN_PROGRESS]
    chosen_cells: list[tuple[ReferenceSweep, ReferenceCell]] = []

    def in_flight(states: Iterable[ReferenceSweep]) -> int:
        running = list(states)
        now = sum(sweep in running for sweep, _ in chosen_cells)
        return sum(sweep.number(CellState.LEASED) for sweep in running) + now

    def served(states: Iterable[ReferenceSweep]) -> tuple[int, float]:
        running = list(states)
        now = [index for index, (sweep, _) in enumerate(chosen_cells, start=1) if sweep in running]
        return max(now, default=0), max(sweep.served_at for sweep in running)

    while len(chosen_cells) < limit:
        taken = [entry for _, entry in chosen_cells]
        next_cells: dict[str, ReferenceCell] = {}
        for sweep in in_progress:
            for entry in sweep.cells if sweep.model in models else ():
                free = entry.state is CellState.PENDING and not entry.quarantined
                if free and entry not in taken:
                    next_cells.setdefault(sweep.id, entry)
        waiting = [sweep for sweep in sweeps if sweep.id in next_cells]
        if not waiting:
            break
        first = [sweep for sweep in waiting if sweep.priority == max(other.priority for other in waiting)]
        best: dict[str, ReferenceSweep] = {}  # of each owner the sweep that is next
        for sweep in sorted(first, key=lambda sweep: (in_flight([sweep]), served([sweep]))):
            best.setdefault(sweep.owner, sweep)

        def fair_share_order(sweep: ReferenceSweep) -> tuple[object, ...]:
            owners = [other for other in sweeps if other.owner == sweep.owner and not other.ended]
            return in_flight(owners), served(owners), sweeps.index(sweep)

        chosen = min(best.values(), key=fair_share_order)
        chosen_cells.append((chosen, next_cells[chosen.id]))
    return chosen_cells


def page(records: list[Record], after: str | None, limit: int) -> Page[Record]:
    ids = [record.id for record in records]
    if after is not None and after not in ids:
        raise NotFound(after)
    start = 0 if after is None else ids.index(after) + 1
    return Page(data=tuple(records[start : start + limit]), has_more=len(records) > start + limit)


def stats_of(sweeps: Sequence[ReferenceSweep], cells: Collection[ReferenceCell]) -> StoreStats:
    waiting = [sweep for sweep in sweeps if sweep.state is SweepState.IN_PROGRESS and sweep.number(CellState.PENDING)]
    return StoreStats(
        sweeps=Counter(sweep.state.value for sweep in sweeps if not sweep.deleted),
        cells=Counter(entry.state.value for entry in cells),
        leases=Counter(entry.owner for entry in cells if entry.state is CellState.LEASED),
        cells_asked=sum(sweep.counted()[0].total for sweep in sweeps),
        cells_reused=sum(sweep.reused for sweep in sweeps),
        oldest_waiting=min((sweep.created_at for sweep in waiting), default=None),
        longest_unserved=min((max(sweep.created_at, sweep.served_at) for sweep in waiting), default=None),
    )
