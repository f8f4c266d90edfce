"""Parses the Dockerfile, and builds a stage without a container engine.

Building runs the stage's own RUN lines in an empty folder: `/opt/ampsweep` and `/src` stand for folders below it, and a
new virtual environment for the image's Python. `apt-get` and users are the base's affair and are left out.
"""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A stage: what it stands on, and its instructions in order."""

    name: str
    base: str
    instructions: list[tuple[str, str]] = field(default_factory=list)


def read_stages() -> dict[str, Stage]:
    """Read the Dockerfile; continued lines are joined, comments left out."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    stages: dict[str, Stage] = {}
    arguments: dict[str, str] = {}
    current: Stage | None = None
    for line in text.replace("\\\n", " ").splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            base, name = re.fullmatch(r"(\S+) AS (\S+)", rest).groups()  # type: ignore[union-attr]
            current = stages[name] = Stage(name=name, base=arguments.get(base.strip("${}"), base))
        elif word and current is None:
            name, _, value = rest.partition("=")
            arguments[name] = value
        elif word and current is not None:
            current.instructions.append((word, " ".join(rest.split())))
    return stages


def lineage(stages: Mapping[str, Stage], name: str) -> list[Stage]:
    """Return a stage and those below it, the lowest first."""
    stages_used: list[Stage] = []
    while name in stages:
        stages_used.insert(0, stages[name])
        name = stages[name].base
    return stages_used


def build(target: str, folder: Path, arguments: Mapping[str, str]) -> Path:
    """Run the stages of `<target>-builder` below `folder`; return the environment that the image gets."""
    outside = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV", "UV_"))
    }
    subprocess.run([sys.executable, "-m", "venv", folder / "python"], check=True)
    environment = {**outside, "PATH": f"{folder / 'python' / 'bin'}:/usr/bin:/bin"}
    source = folder / "src"
    source.mkdir()

    def placed(text: str) -> str:
        return text.replace("/opt/ampsweep", str(folder / "ampsweep")).replace("/src", str(source))

    for stage in lineage(read_stages(), f"{target}-builder"):
        for word, rest in stage.instructions:
            if word == "ENV":
                environment |= dict(pair.split("=", 1) for pair in placed(rest).split())
            elif word == "ARG":
                name, _, default = rest.partition("=")
                environment[name] = arguments.get(name, default)
            elif word == "COPY":
                copy_context(rest.split()[0], source)
            elif word == "RUN":
                subprocess.run(["/bin/sh", "-c", placed(rest)], cwd=source, env=environment, check=True)
    return folder / "ampsweep"


def copy_context(pattern: str, target: Path) -> None:
    """Copy what a build sends along: the tracked files that .dockerignore lets through."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in listed.splitlines():
        if sent(name) and (pattern == "." or name == pattern) and (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


def sent(name: str) -> bool:
    """Whether .dockerignore lets a file through: the last line that speaks of it decides."""
    passes = True
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        pattern = line.removeprefix("!")
        if pattern.endswith("/"):
            spoken_of = fnmatch.fnmatch(name, f"{pattern}*") or fnmatch.fnmatch(
                f"/{name}", pattern.replace("**", "*") + "*"
            )
        else:
            spoken_of = fnmatch.fnmatch(name, pattern) or (
                pattern.startswith("**/") and fnmatch.fnmatch(name, pattern[3:])
            )
        if spoken_of:
            passes = line.startswith("!")
    return passes
