"""Resolves the tasks of a spec: their options, languages, data and splits; an error names the field of the spec."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ampsweep.domain.choices import Mode
from ampsweep.domain.languages.unknown import unknown_language
from ampsweep.errors import DataUnavailable, InvalidRequest
from ampsweep.hashing import canonical_json
from jobs.cell import TaskRef
from jobs.planning.catalog import Catalog
from jobs.spec.task import TaskSpec
from jobs.tasks.base import Task
from jobs.tasks.registry import releases_of, task_for
from jobs.tasks.sampled_task import SampledTask


@dataclass(frozen=True, kw_only=True)
class ResolvedTask:
    """A task of the spec in one mode.

    Attributes:
        targets: Target languages that the task is asked with.
        refs: References of the task's cells, in the order of the plan.
        warnings: Warnings about the task's data for the user.
    """

    targets: tuple[str, ...]
    refs: tuple[TaskRef, ...]
    warnings: tuple[str, ...]

    def targets_of(self, ref: TaskRef) -> tuple[str, ...]:
        """Return the languages that the cells of a reference are steered to."""
        return self.targets if ref.target_language is None else (ref.target_language,)


def resolve_tasks(
    tasks: Sequence[TaskSpec], catalog: Catalog, *, targets: tuple[str, ...], modes: tuple[Mode, ...]
) -> dict[Mode, tuple[ResolvedTask, ...]]:
    """Return the tasks of a spec in each mode, in their order.

    Args:
        tasks: The tasks.
        catalog: The data sets.
        targets: The target languages of the sweep.
        modes: The modes of the sweep.

    Raises:
        InvalidRequest: Values of a task do not fit together; `param` is the field.
        UnknownName: A name does not exist; `param` is the field.
    """
    resolvers = [_TaskResolver(index, task, catalog, targets) for index, task in enumerate(tasks)]
    by_task = [resolver.resolve(modes) for resolver in resolvers]
    return {mode: tuple(resolved[mode] for resolved in by_task) for mode in modes}


class _TaskResolver:
    """Resolves one task of a spec; errors name its fields."""

    def __init__(self, index: int, spec: TaskSpec, catalog: Catalog, targets: tuple[str, ...]) -> None:
        self._param = f"tasks.{index}"
        self._spec = spec
        self._catalog = catalog
        self._sweep_targets = targets

    def resolve(self, modes: tuple[Mode, ...]) -> dict[Mode, ResolvedTask]:
        """Return the task in each mode."""
        tasks = {mode: task_for(self._spec.name, mode=mode, param=f"{self._param}.name") for mode in modes}
        task = tasks[modes[0]]
        self._check_options(task)
        targets = self._targets()
        folder = self._catalog.data_set(self._spec.data or task.default_data, param=f"{self._param}.data")
        split = self._split(task)
        self._check_languages(task, folder, split, targets)
        return {mode: self._in_mode(mode, task, folder, split, targets) for mode, task in tasks.items()}

    def _check_options(self, task: Task) -> None:
        if self._spec.chat and not task.supports_chat:
            message = f"task {task.name} scores plain text without a chat template; leave chat out"
            raise InvalidRequest(message, param=f"{self._param}.chat")
        if self._spec.chat_template_kwargs and not self._spec.chat:
            param = f"{self._param}.chat_template_kwargs"
            raise InvalidRequest(f"{param} has no effect without chat: true; add it, or leave it out", param=param)
        if self._spec.facts is not None and not task.needs_target_language:
            raise InvalidRequest(f"task {task.name} asks no facts; leave facts out", param=f"{self._param}.facts")
        for name in () if isinstance(task, SampledTask) else self._spec.sampling:
            raise InvalidRequest(
                f"task {task.name} samples no answers; leave {name} out", param=f"{self._param}.{name}"
            )

    def _sampling(self, task: Task) -> tuple[tuple[str, int | float], ...]:
        if not isinstance(task, SampledTask):
            return ()
        try:
            return task.sampling_options(self._spec.sampling)
        except InvalidRequest as error:
            raise InvalidRequest(error.message, param=f"{self._param}.{error.param}") from error

    def _targets(self) -> tuple[str, ...]:
        for index, language in enumerate(self._spec.targets or ()):
            if language not in self._sweep_targets:
                what, param = "target language of the sweep", f"{self._param}.targets.{index}"
                raise unknown_language(what, language, self._sweep_targets, param=param)
        return self._sweep_targets if self._spec.targets is None else self._spec.targets

    def _split(self, task: Task) -> str | None:
        if self._spec.split is not None and task.default_split is None:
            raise InvalidRequest(f"task {task.name} has no splits; leave split out", param=f"{self._param}.split")
        return self._spec.split or task.default_split

    def _check_languages(self, task: Task, folder: Path, split: str | None, targets: tuple[str, ...]) -> None:
        try:
            available = task.languages(folder, split)
        except InvalidRequest as error:
            field = error.param or ("data" if self._spec.split is None else "split")
            raise InvalidRequest(error.message, param=f"{self._param}.{field}") from error
        needs = getattr(task, "language_needs", None)
        for index, language in enumerate(self._spec.languages):
            if language not in available:
                what, param = f"language of task {task.name}", f"{self._param}.languages.{index}"
                raise unknown_language(what, language, available, param=param, remedy=needs)
        for language in targets if task.needs_target_language else ():
            if language not in available:
                what = f"target language for task {task.name}"
                param = "interventions.languages" if self._spec.targets is None else f"{self._param}.targets"
                raise unknown_language(what, language, available, param=param, remedy=needs)

    def _in_mode(
        self, mode: Mode, task: Task, folder: Path, split: str | None, targets: tuple[str, ...]
    ) -> ResolvedTask:
        spec = self._spec
        shares_facts = task.needs_target_language and spec.facts != "any"
        only_targets = tuple(sorted(set(targets) - set(spec.languages)))
        unresolved = [
            TaskRef(
                name=task.name,
                version=task.version,
                data_language=language,
                target_language=target,
                limit=spec.limit,
                split=split,
                data=spec.data or task.default_data,
                data_hash="",
                mode=mode,
                chat=spec.chat,
                chat_template_kwargs=tuple(
                    (name, canonical_json(value)) for name, value in sorted((spec.chat_template_kwargs or {}).items())
                ),
                shared_by=(tuple(sorted(spec.languages)), only_targets) if shares_facts else (),
                sampling=self._sampling(task),
                plugins=releases_of(task),
            )
            for language in spec.languages
            for target in (targets if task.needs_target_language else (None,))
            if target != language
        ]
        if not unresolved:
            message = f"task {task.name} compares two languages; none of the targets differs from its data languages"
            raise InvalidRequest(message, param=f"{self._param}.languages")
        refs = tuple(self._with_data(task, folder, ref) for ref in unresolved)
        warnings = tuple(f"{self._param}: {warning}" for warning in task.warnings(folder, refs))
        return ResolvedTask(targets=targets, refs=refs, warnings=warnings)

    def _with_data(self, task: Task, folder: Path, ref: TaskRef) -> TaskRef:
        try:
            return task.resolve(folder, ref)
        except DataUnavailable as error:
            error.param = f"{self._param}.{error.param or 'data'}"
            raise
        except InvalidRequest as error:
            raise InvalidRequest(error.message, param=f"{self._param}.{error.param or 'data'}") from error
