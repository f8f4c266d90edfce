"""Which commit a copy of a repository on disk is, read from its own files: a git clone, or a download of the Hub's."""

from __future__ import annotations

import re
from pathlib import Path

_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def commit_of(folder: Path) -> str | None:
    """Return the commit a folder holds; None where it does not say, or where its files are of several commits.

    A git clone says it in its HEAD; changes that were never committed are not seen. A folder that `hf download
    --local-dir` wrote says it in the first line of each file's record.
    """
    git = folder / ".git"
    if git.is_file():  # of a worktree or submodule: "gitdir: <path>"
        git = folder / git.read_text(encoding="utf-8").partition("gitdir:")[2].strip()
    if (git / "HEAD").is_file():
        return _head(git)
    records = (folder / ".cache" / "huggingface" / "download").rglob("*.metadata")
    commits = {path.read_text(encoding="utf-8").partition("\n")[0].strip() for path in records}
    return _commit(commits.pop()) if len(commits) == 1 else None


def _head(git: Path) -> str | None:
    head = (git / "HEAD").read_text(encoding="utf-8").strip()
    if not head.startswith("ref:"):
        return _commit(head)
    name = head.removeprefix("ref:").strip()
    shared = git / "commondir"
    common = git / shared.read_text(encoding="utf-8").strip() if shared.is_file() else git
    if (common / name).is_file():
        return _commit((common / name).read_text(encoding="utf-8").strip())
    packed = common / "packed-refs"
    lines = packed.read_text(encoding="utf-8").splitlines() if packed.is_file() else []
    return next((_commit(line.split()[0]) for line in lines if line.split()[1:] == [name]), None)


def _commit(text: str) -> str | None:
    return text if _COMMIT.fullmatch(text) else None
