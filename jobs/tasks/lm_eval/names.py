"""Which tasks of lm-eval there are, by name: those of the server's folder, then those that come with lm-eval.

Clients only ever name tasks. A name is looked up among the YAML files that are there and never becomes a path. Of the
server's own files, what they include and the functions they name must lie in that folder too.
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
"""In a name: the two-letter code of the data language, or FLORES's."""
_CODE = re.compile(r"[a-z]{2,3}([_-][A-Z][a-z]{3})?([_-][A-Z]{2})?")
"""A language, perhaps with its script and region."""
_OTHER_CODES = {"ja": ("jp",), "zh": ("cn",)}
_TASK_LINE = re.compile(r"^task: *[\"']?([\w.+-]+)[\"']? *$", re.MULTILINE)
_SHOWN = 20


def bundled_folder() -> Path:
    """Return the folder of the tasks that come with lm-eval, unimported; InvalidRequest where it is not here."""
    found = find_spec("lm_eval")
    if found is None or found.origin is None:
        raise InvalidRequest("lm-eval is not installed; run: pip install 'ampsweep[tasks]'", param="name")
    return Path(found.origin).parent / "tasks"


def for_language(name: str, language: str, folder: Path) -> str:
    """Return a task's name on a language, spelled as the first of its spellings that names a task."""
    known = _known(folder)
    flores, others = flores_codes(language), _spellings(language)
    spellings = [*flores, *others] if FLORES in name else [*others, *flores]
    names = [name.replace(LANGUAGE, spelled).replace(FLORES, spelled) for spelled in spellings]
    return next((spelled for spelled in names if spelled in known), names[0])


def languages_of(name: str, folder: Path) -> frozenset[str]:
    """Return the languages that a name with `{language}` or `{flores}` stands for; UnknownName where there is none.

    What stands in the place is a language if it is written as one: `fr`, `fra`, `fra_Latn`, `french`, but not
    `fra_prompt_1`. A task of one language, whose name is whole, may be called by any language of the paper.
    """
    if LANGUAGE not in name and FLORES not in name:
        yaml_of(name, folder)
        return frozenset(FLORES_CODES)
    if name.count(LANGUAGE) + name.count(FLORES) > 1:
        raise InvalidRequest(f"{name} has more than one place for a language; write the others out", param="name")
    parts = re.escape(name.replace(FLORES, LANGUAGE)).replace(re.escape(LANGUAGE), "(?P<code>.+)")
    matches = (re.fullmatch(parts, known) for known in _known(folder))
    found = frozenset(code for match in matches if match and (code := _language(match["code"])))
    if not found:
        raise UnknownName("task of lm-eval", name, sorted(_own(folder))[:_SHOWN], param="name")
    return found


def _spellings(language: str) -> list[str]:
    """Return how tasks of lm-eval spell a language: by its own code, by another one, by its English name."""
    english = ENGLISH_NAMES.get(language, "").lower().replace(" ", "_")
    iso = dict.fromkeys(flores.partition("_")[0] for flores in flores_codes(language))
    return [language, *_OTHER_CODES.get(language, ()), *iso, *([english] if english else [])]


def _language(spelling: str) -> str | None:
    """Return the language that a spelling means, by its two-letter code where there is one; None for any other word."""
    return _papers_spellings().get(spelling) or (short_code(spelling) if _CODE.fullmatch(spelling) else None)


@cache
def _papers_spellings() -> dict[str, str]:
    return {spelled: language for language in FLORES_CODES for spelled in _spellings(language)}


def yaml_of(name: str, folder: Path) -> Path:
    """Return the YAML file of a task; UnknownName shows the server's own ones.

    Raises InvalidRequest where a file of the server's folder reaches out of it.
    """
    own = _own(folder)
    if name in own:
        _keep_inside(own[name], folder.resolve())
        return own[name]
    bundled = _in_folder(bundled_folder(), "")
    if name not in bundled:
        raise UnknownName("task of lm-eval", name, sorted(own)[:_SHOWN], param="name")
    return bundled[name]


def _known(folder: Path) -> frozenset[str]:
    return frozenset(_own(folder)) | frozenset(_in_folder(bundled_folder(), ""))


def _own(folder: Path) -> dict[str, Path]:
    if folder == bundled_folder():
        return {}
    stamp = "".join(cached_hash(path) for path in sorted(folder.rglob("*.yaml")))
    return _in_folder(folder, stamp)


@lru_cache(maxsize=8)
def _in_folder(folder: Path, _stamp: str) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*.yaml")):
        for name in _TASK_LINE.findall(path.read_text(encoding="utf-8-sig", errors="replace")):
            found.setdefault(name, path)
    return found


def _keep_inside(path: Path, folder: Path) -> None:
    if not path.resolve().is_relative_to(folder):
        raise InvalidRequest(f"{path.name} includes or is a file outside the server's folder of tasks", param="name")
    functions, includes = _reached(path)
    for named in functions:
        module = (path.parent / (named.rpartition(".")[0].replace(".", "/") + ".py")).resolve()
        if not (module.is_file() and module.is_relative_to(folder)):
            raise InvalidRequest(
                f"{path.name} names the function {named}, which is not in the server's folder of tasks", param="name"
            )
    for include in includes:
        _keep_inside(path.parent / include, folder)


def _reached(path: Path) -> tuple[list[str], list[str]]:
    """Return the functions and the files that a YAML file names."""
    functions: list[str] = []

    class Loader(yaml.SafeLoader):
        """Collects `!function` tags instead of importing what they name."""

    def collect(_: Any, node: yaml.Node) -> None:
        functions.append(str(node.value))

    Loader.add_constructor("!function", collect)
    try:
        raw = yaml.load(path.read_text(encoding="utf-8-sig"), Loader=Loader)  # noqa: S506  # a subclass of the safe one
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InvalidRequest(f"{path.name} cannot be read: {error}", param="name") from error
    return functions, list(_includes(raw))


def _includes(raw: object) -> Iterator[str]:
    asked = raw.get("include", []) if isinstance(raw, dict) else []
    yield from map(str, asked if isinstance(asked, list) else [asked])
