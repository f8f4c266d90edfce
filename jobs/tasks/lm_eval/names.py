"""Finds tasks and groups of lm-eval by name: those in the server's folder first, then those that come with lm-eval.

A name that a client sends is looked up among the names in YAML files and is never used as a path. The files that a
YAML file of the server's folder includes, and the functions that it names, must be in that folder too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from ampsweep.domain.languages.codes import FLORES_CODES, flores_codes, is_usual_code, short_code
from ampsweep.domain.languages.names import english_name
from ampsweep.errors import InvalidRequest, UnknownName
from ampsweep.hashing import cached_hash, files_hash

LANGUAGE, FLORES = "{language}", "{flores}"
"""Placeholders in a name: the two-letter code of the data language, and its FLORES code."""
_OTHER_CODES = {"ja": ("jp",), "zh": ("cn",)}
_NAME_LINE = re.compile(r"^(task|group): *[\"']?([\w.+-]+)[\"']? *$", re.MULTILINE)
_MAX_LISTED = 20
_MAX_COMPARED = 100
"""Maximum length of an unknown name for which a similar one is looked for."""


@cache
def bundled_folder() -> Path:
    """Return the folder of the tasks that come with lm-eval, without importing it.

    Raises:
        InvalidRequest: lm-eval is not installed.
    """
    package = find_spec("lm_eval")
    if package is None or package.origin is None:
        raise InvalidRequest("lm-eval is not installed; run: pip install 'ampsweep[tasks]'", param="name")
    return Path(package.origin).parent / "tasks"


def for_language(name: str, language: str, folder: Path) -> str:
    """Return the name of a task in a language: with the first spelling of the language that names a task."""
    tasks, groups = task_names(folder), group_names(folder)
    flores, others = flores_codes(language), _spellings(language)
    spellings = [*flores, *others] if FLORES in name else [*others, *flores]
    names = [name.replace(LANGUAGE, spelling).replace(FLORES, spelling) for spelling in spellings]
    return next((candidate for known in (tasks, groups) for candidate in names if candidate in known), names[0])


def languages_of(name: str, folder: Path) -> frozenset[str]:
    """Return the languages for which a name with `{language}` or `{flores}` names a task.

    The placeholder stands for language codes and names such as `fr`, `fra`, `fra_Latn` and `french`, but not for
    `fra_prompt_1`. A name without a placeholder can be used with any language of the paper.

    Raises:
        UnknownName: There is no such task.
        InvalidRequest: The name has more than one placeholder.
    """
    if LANGUAGE not in name and FLORES not in name:
        yaml_of(name, folder)
        return frozenset(FLORES_CODES)
    if name.count(LANGUAGE) + name.count(FLORES) > 1:
        raise InvalidRequest(f"{name} has more than one placeholder for a language; write the others out", param="name")
    pattern = re.escape(name.replace(FLORES, LANGUAGE)).replace(re.escape(LANGUAGE), "(?P<code>.+)")
    matches = (re.fullmatch(pattern, known) for known in task_names(folder) | group_names(folder))
    languages = frozenset(code for match in matches if match and (code := _language(match["code"])))
    if not languages:
        raise _unknown(name, folder)
    return languages


def _spellings(language: str) -> list[str]:
    """Return the spellings of a language in names of lm-eval's tasks: its code, other codes, and its English name."""
    english = (english_name(language) or "").lower().replace(" ", "_")
    iso = dict.fromkeys(flores.partition("_")[0] for flores in flores_codes(language))
    return [language, *_OTHER_CODES.get(language, ()), *iso, *([english] if english else [])]


def _language(spelling: str) -> str | None:
    """Return the language that a spelling means, by its two-letter code if it has one; None for any other word."""
    return _paper_spellings().get(spelling) or (short_code(spelling) if is_usual_code(spelling) else None)


@cache
def _paper_spellings() -> dict[str, str]:
    return {spelling: language for language in FLORES_CODES for spelling in _spellings(language)}


def yaml_of(name: str, folder: Path) -> Path:
    """Return the YAML file of a task or group.

    Raises:
        UnknownName: There is no such task; the message lists the tasks of the server's folder.
        InvalidRequest: A file of the server's folder includes a file, or names a function, outside of it.
    """
    server, kind = _kind_of(name, folder)
    if not server:
        return _bundled_files()[kind][name]
    path = _server_files(folder)[kind][name]
    require_inside(path, folder)
    return path


def is_group(name: str, folder: Path) -> bool:
    """Return whether a name is that of a group; raise UnknownName if it is neither a task nor a group."""
    return _kind_of(name, folder)[1] == "group"


def _kind_of(name: str, folder: Path) -> tuple[bool, str]:
    """Return whether a name is defined by the server's folder, and whether it is that of a task or of a group."""
    for server, files in ((True, _server_files(folder)), (False, _bundled_files())):
        for kind in ("task", "group"):
            if name in files[kind]:
                return server, kind
    raise _unknown(name, folder)


def task_names(folder: Path) -> frozenset[str]:
    """Return the names of the tasks of the server and of lm-eval."""
    return _names(folder, folder_stamp(folder))["task"]


def group_names(folder: Path) -> frozenset[str]:
    """Return the names of the groups of the server and of lm-eval, without those that are tasks too."""
    return _names(folder, folder_stamp(folder))["group"]


@lru_cache(maxsize=8)
def _names(folder: Path, _stamp: str) -> dict[str, frozenset[str]]:
    """Return the names of the tasks and of the groups. There are so many that joining them takes milliseconds."""
    server, bundled = _server_files(folder), _bundled_files()
    tasks, groups = (frozenset(server[kind]) | frozenset(bundled[kind]) for kind in ("task", "group"))
    return {"task": tasks, "group": groups - tasks}


def _unknown(name: str, folder: Path) -> UnknownName:
    """Suggest a name that is spelled alike, and list the tasks of the server only, because lm-eval has thousands."""
    server_names = sorted({known for files in _server_files(folder).values() for known in files})
    all_names = task_names(folder) | group_names(folder) if len(name) <= _MAX_COMPARED and "{" not in name else ()
    return UnknownName(
        "task of lm-eval",
        name,
        server_names[:_MAX_LISTED] or ["those of lm-eval; AMPSWEEP_LM_EVAL_TASKS names a folder with others"],
        param="name",
        meant=next(iter(get_close_matches(name, all_names, n=1)), None),
        similar=False,
    )


def _bundled_files() -> dict[str, dict[str, Path]]:
    return _in_folder(bundled_folder(), "")


def _server_files(folder: Path) -> dict[str, dict[str, Path]]:
    if folder == bundled_folder():
        return {"task": {}, "group": {}}
    return _in_folder(folder, folder_stamp(folder))


def folder_stamp(folder: Path) -> str:
    """Return a text that changes with the YAML files of the server's folder; empty for the tasks of lm-eval."""
    if folder == bundled_folder():
        return ""
    return "".join(map(cached_hash, _yaml_files(folder)))


def code_hash(folders: Iterable[Path]) -> str:
    """Return a hash of the YAML and Python files in folders, at any depth."""
    files = (path for folder in folders for path in folder.rglob("*") if path.suffix in (".yaml", ".py"))
    return files_hash([path for path in files if path.is_file()])


def _yaml_files(folder: Path) -> list[Path]:
    """Return the YAML files of a folder in a fixed order, without folders and broken links."""
    return [path for path in sorted(folder.rglob("*.yaml")) if path.is_file()]


@lru_cache(maxsize=8)
def _in_folder(folder: Path, _stamp: str) -> dict[str, dict[str, Path]]:
    """Return the files of the tasks and of the groups by name."""
    files: dict[str, dict[str, Path]] = {"task": {}, "group": {}}
    for path in _yaml_files(folder):
        for kind, name in _NAME_LINE.findall(path.read_text(encoding="utf-8-sig", errors="replace")):
            files[kind].setdefault(name, path)
    return files


def require_inside(path: Path, folder: Path, *, included_by: tuple[Path, ...] = ()) -> None:
    """Reject a YAML file that is, includes a file, or names a function, outside the server's folder of tasks.

    A file that includes itself, directly or by another, is rejected too.
    """
    folder, resolved = folder.resolve(), path.resolve()
    if not resolved.is_relative_to(folder):
        raise InvalidRequest(f"{path.name} includes or is a file outside the server's folder of tasks", param="name")
    if resolved in included_by:
        raise InvalidRequest(f"{path.name} includes itself; remove one of the includes", param="name")
    functions, includes = _references(path)
    for function in functions:
        module = (path.parent / (function.rpartition(".")[0].replace(".", "/") + ".py")).resolve()
        if not (module.is_file() and module.is_relative_to(folder)):
            raise InvalidRequest(
                f"{path.name} names the function {function}, which is not in the server's folder of tasks", param="name"
            )
    for include in includes:
        require_inside(path.parent / include, folder, included_by=(*included_by, resolved))


def _references(path: Path) -> tuple[list[str], list[str]]:
    """Return the functions that a YAML file names, and the files that it includes."""
    functions: list[str] = []

    class Loader(yaml.SafeLoader):
        """Collects `!function` tags instead of importing the functions."""

    def collect(_: Any, node: yaml.Node) -> None:
        functions.append(str(node.value))

    Loader.add_constructor("!function", collect)
    try:
        raw = yaml.load(path.read_text(encoding="utf-8-sig"), Loader=Loader)  # noqa: S506  # a subclass of SafeLoader
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise InvalidRequest(f"{path.name} cannot be read: {error}", param="name") from error
    return functions, list(_includes(raw))


def _includes(raw: object) -> Iterator[str]:
    includes = raw.get("include", []) if isinstance(raw, dict) else []
    yield from map(str, includes if isinstance(includes, list) else [includes])
