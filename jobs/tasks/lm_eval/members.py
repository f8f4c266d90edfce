"""Finds the tasks of a group of lm-eval, in whatever folders they are, without loading their data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from ampsweep.errors import InvalidRequest, UnknownName
from jobs.tasks.lm_eval.names import bundled_folder, folder_stamp, group_names, require_inside, task_names, yaml_of


def folders_of(name: str, folder: Path) -> tuple[Path, ...]:
    """Return the folders with the YAML files of a group's members, those of lm-eval first.

    Args:
        name: The name of the group.
        folder: The server's folder of tasks.

    Raises:
        InvalidRequest: A member does not exist, or its file reaches out of the server's folder.
    """
    return _folders_of(name, folder, folder_stamp(folder))


@lru_cache(maxsize=64)
def _folders_of(name: str, folder: Path, _stamp: str) -> tuple[Path, ...]:
    folders = [yaml_of(name, folder).parent]
    known = task_names(folder) | group_names(folder)
    while True:
        index = task_manager(folders).task_index
        if name not in index or index[name].kind.name != "GROUP":
            raise InvalidRequest(f"lm-eval does not read {name} as a group; name one of its tasks", param="name")
        members = list(_members(name, index, known))
        missing = [member for member in members if member not in index]
        if not missing:
            _require_all_inside(members, index, folder)
            return tuple(folders)
        for member in missing:
            folders = _with_folder(folders, _member_file(name, member, folder).parent)


def task_manager(folders: Sequence[Path]) -> Any:
    """Return lm-eval's index of the tasks in folders; those of later folders replace those of earlier ones."""
    from lm_eval.tasks import TaskManager

    return TaskManager(include_path=list(folders), include_defaults=False)


def _members(name: str, index: Mapping[str, Any], known: frozenset[str]) -> Iterator[str]:
    """Yield the names that a group and its subgroups refer to: tasks, groups and tags, whether they exist or not.

    Args:
        name: The name of the group.
        index: lm-eval's entries by name.
        known: The names of all tasks and groups. Others may be defined in the group's file.
    """
    pending = [_members_of(index[name])]
    seen = {name}
    while pending:
        for member in pending.pop():
            member_name = member if isinstance(member, str) else member.get("group", member.get("task"))
            if isinstance(member, dict) and member_name not in index and member_name not in known:
                pending.append(_listed(member.get("task")) if "group" in member else [])
            elif member_name not in seen:
                seen.add(member_name)
                yield member_name
                if member_name in index:
                    pending.append(_members_of(index[member_name]))


def _members_of(entry: Any) -> list[Any]:
    """Return the members of an entry of lm-eval's index; an empty list for a task."""
    if entry.kind.name == "TAG":
        return sorted(entry.tags)
    return _listed(entry.cfg.get("task")) if entry.kind.name == "GROUP" else []


def _listed(members: Any) -> list[Any]:
    return members if isinstance(members, list) else [members] if members else []


def _member_file(group: str, member: str, folder: Path) -> Path:
    try:
        return yaml_of(member, folder)
    except UnknownName:
        reason = "but no YAML file defines a task, group or tag of this name; add it"
        message = f"the group {group} has the member {member}, {reason}"
        raise InvalidRequest(message, param="name") from None


def _with_folder(folders: list[Path], added: Path) -> list[Path]:
    """Return the folders with another one, without those inside it; the folders of lm-eval come first."""
    kept = [folder for folder in folders if not folder.is_relative_to(added)]
    return sorted([*kept, added], key=lambda folder: not folder.is_relative_to(bundled_folder()))


def _require_all_inside(members: Sequence[str], index: Mapping[str, Any], folder: Path) -> None:
    for member in members:
        path = index[member].yaml_path
        if path is not None and not path.is_relative_to(bundled_folder()):
            require_inside(path, folder)
