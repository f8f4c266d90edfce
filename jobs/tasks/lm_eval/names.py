"""Finds tasks of lm-eval by name: those in the server's folder first, then those that come with lm-eval.

A name that a client sends is looked up among the names in YAML files and is never used as a path. The files that a
YAML file of the server's folder includes, and the functions that it names, must be in that folder too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from ampsweep.domain.languages import ENGLISH_NAMES, FLORES_CODES, flores_codes, short_code
from ampsweep.errors import InvalidRequest, UnknownName
from ampsweep.hashing import cached_hash

LANGUAGE, FLORES = "{language}", "{flores}"
"""Placeholders in a name: the two-letter code of the data language, and its FLORES code."""
_CODE = re.compile(r"[a-z]{2,3}([_-][A-Z][a-z]{3})?([_-][A-Z]{2})?")
"""A language code, optionally with script and region."""
_OTHER_CODES = {"ja": ("jp",), "zh": ("cn",)}
_TASK_LINE = re.compile(r"^task: *[\"']?([\w.+-]+)[\"']? *$", re.MULTILINE)
_MAX_LISTED = 20


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
    task_names = _task_names(folder)
    flores, others = flores_codes(language), _spellings(language)
    spellings = [*flores, *others] if FLORES in name else [*others, *flores]
    names = [name.replace(LANGUAGE, spelling).replace(FLORES, spelling) for spelling in spellings]
    return next((candidate for candidate in names if candidate in task_names), names[0])


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
    matches = (re.fullmatch(pattern, task_name) for task_name in _task_names(folder))
    languages = frozenset(code for match in matches if match and (code := _language(match["code"])))
    if not languages:
        raise UnknownName("task of lm-eval", name, sorted(_server_tasks(folder))[:_MAX_LISTED], param="name")
    return languages


def _spellings(language: str) -> list[str]:
    """Return the spellings of a language in names of lm-eval's tasks: its code, other codes, and its English name."""
    english = ENGLISH_NAMES.get(language, "").lower().replace(" ", "_")
    iso = dict.fromkeys(flores.partition("_")[0] for flores in flores_codes(language))
    return [language, *_OTHER_CODES.get(language, ()), *iso, *([english] if english else [])]


def _language(spelling: str) -> str | None:
    """Return the language that a spelling means, by its two-letter code if it has one; None for any other word."""
    return _paper_spellings().get(spelling) or (short_code(spelling) if _CODE.fullmatch(spelling) else None)


@cache
def _paper_spellings() -> dict[str, str]:
    return {spelling: language for language in FLORES_CODES for spelling in _spellings(language)}


def yaml_of(name: str, folder: Path) -> Path:
    """Return the YAML file of a task.

    Raises:
        UnknownName: There is no such task; the message lists the tasks of the server's folder.
        InvalidRequest: A file of the server's folder includes a file, or names a function, outside of it.
    """
    server_tasks = _server_tasks(folder)
    if name in server_tasks:
        _require_inside(server_tasks[name], folder.resolve())
        return server_tasks[name]
    bundled = _in_folder(bundled_folder(), "")
    if name not in bundled:
        raise UnknownName("task of lm-eval", name, sorted(server_tasks)[:_MAX_LISTED], param="name")
    return bundled[name]


def _task_names(folder: Path) -> frozenset[str]:
    return frozenset(_server_tasks(folder)) | frozenset(_in_folder(bundled_folder(), ""))


def _server_tasks(folder: Path) -> dict[str, Path]:
    if folder == bundled_folder():
        return {}
    stamp = "".join(cached_hash(path) for path in sorted(folder.rglob("*.yaml")))
    return _in_folder(folder, stamp)


@lru_cache(maxsize=8)
def _in_folder(folder: Path, _stamp: str) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for path in sorted(folder.rglob("*.yaml")):
        for name in _TASK_LINE.findall(path.read_text(encoding="utf-8-sig", errors="replace")):
            files.setdefault(name, path)
    return files


def _require_inside(path: Path, folder: Path) -> None:
    if not path.resolve().is_relative_to(folder):
        raise InvalidRequest(f"{path.name} includes or is a file outside the server's folder of tasks", param="name")
    functions, includes = _references(path)
    for function in functions:
        module = (path.parent / (function.rpartition(".")[0].replace(".", "/") + ".py")).resolve()
        if not (module.is_file() and module.is_relative_to(folder)):
            raise InvalidRequest(
                f"{path.name} names the function {function}, which is not in the server's folder of tasks", param="name"
            )
    for include in includes:
        _require_inside(path.parent / include, folder)


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
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InvalidRequest(f"{path.name} cannot be read: {error}", param="name") from error
    return functions, list(_includes(raw))


def _includes(raw: object) -> Iterator[str]:
    includes = raw.get("include", []) if isinstance(raw, dict) else []
    yield from map(str, includes if isinstance(includes, list) else [includes])
