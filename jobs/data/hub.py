"""Downloads data sets of the Hugging Face Hub once, and keeps them as the files that tasks read."""

from __future__ import annotations

import gzip
import json
import logging
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ampsweep.errors import InvalidRequest
from jobs.data.hub_sources import SOURCES, HubSource

log = logging.getLogger(__name__)

SOURCE_FILE = "source.json"
"""Name of the file with the repository and the commit that a folder's files come from."""
UNKNOWN = "mirror"
"""The recorded revision if the copy in a mirror does not name its commit."""
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class HubData:
    """The data sets of `SOURCES`, kept in folders of `cache`.

    With a `mirror`, a folder of clones named `<organization>/<name>`, nothing is downloaded. A clone whose commit is
    not the pinned one is rejected; a copy that does not name its commit is recorded with the revision `UNKNOWN`.
    """

    cache: Path
    mirror: Path | None = None

    def folder(self, name: str) -> Path:
        """Return the folder of a data set. The first call downloads it; it is published atomically.

        Raises:
            InvalidRequest: The Hub cannot be reached or denies access, the mirror has another commit, or the package
                `datasets` is missing.
        """
        source = SOURCES[name]
        patterns = [f"{name}-{(source.revision or '*')[:12]}", *([f"{name}-{UNKNOWN}"] if self.mirror else [])]
        candidates = [path for pattern in patterns for path in sorted(self.cache.glob(pattern))]
        if downloaded := [path for path in candidates if (path / SOURCE_FILE).is_file()]:
            return downloaded[0]
        try:
            import datasets  # noqa: F401
        except ImportError as error:
            raise InvalidRequest(
                f"{name} is downloaded from the Hub, which needs datasets; run: pip install 'ampsweep[tasks]'"
            ) from error
        return self._fetch(name, source)

    def _fetch(self, name: str, source: HubSource) -> Path:
        from datasets.exceptions import DatasetsError
        from huggingface_hub.errors import HfHubHTTPError

        self.cache.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=self.cache, prefix=f".{name}-"))
        try:
            revision = self._revision(source)
            _write(temporary, source, {split: self._rows(source, split, revision) for split in source.splits})
            description = {"repo": source.repo, "revision": revision, "mirror": self.mirror is not None}
            (temporary / SOURCE_FILE).write_text(json.dumps(description), encoding="utf-8")
            temporary.chmod(0o755)
            target = self.cache / f"{name}-{revision[:12]}"
            if not target.exists():  # otherwise another process has published the same files
                temporary.rename(target)
        except (OSError, ValueError, DatasetsError, HfHubHTTPError) as error:
            where = f"the clone below {self.mirror}" if self.mirror else "the Hub"
            raise InvalidRequest(
                f"{source.repo} could not be read from {where}: {error}; put the files into the folder {name} in the "
                "folder of --data, or make sure that the Hub can be reached and that your account has accepted the "
                "terms of the data set (HF_TOKEN)"
            ) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return target

    def _revision(self, source: HubSource) -> str:
        """Return the commit to read: the mirror's, the pinned one, or the newest if none is pinned."""
        if self.mirror is not None:
            return self._mirror_revision(source, self.mirror / source.repo)
        if source.revision is not None:
            return source.revision
        from huggingface_hub import snapshot_download

        snapshot = snapshot_download(source.repo, repo_type="dataset", allow_patterns=["README.md"])
        return Path(snapshot).name  # the cache names the folder after the commit

    def _mirror_revision(self, source: HubSource, clone: Path) -> str:
        """Return the commit of a clone, or `UNKNOWN`; raise ValueError if it is not the pinned one."""
        commit = commit_of(clone)
        if commit is None:
            log.warning("%s does not name its commit; the revision of its data is recorded as unknown", clone)
            return UNKNOWN
        if source.revision not in (None, commit):
            raise ValueError(
                f"the clone is at commit {commit}, but this data set is pinned to {source.revision}; run: "
                f"git -C {clone} checkout {source.revision}"
            )
        return commit

    def _rows(self, source: HubSource, split: str, revision: str) -> dict[str, list[dict[str, Any]]]:
        from datasets import load_dataset

        repo = source.repo if self.mirror is None else str(self.mirror / source.repo)
        options = {} if self.mirror is not None else {"revision": revision}
        if source.language_column is not None:
            table = list(load_dataset(repo, split=split, **options))
            return {
                language: [row for row in table if row[source.language_column] == code]
                for language, code in source.configs.items()
            }
        return {
            language: list(load_dataset(repo, config, split=split, **options))
            for language, config in source.configs.items()
        }


def _write(folder: Path, source: HubSource, rows: Mapping[str, Mapping[str, Sequence[dict[str, Any]]]]) -> None:
    for split, by_language in rows.items():
        split_name = source.splits[split]
        if source.layout == "parallel facts":
            _write_facts(folder, by_language)
            continue
        for language, language_rows in by_language.items():
            if source.layout == "split/language":
                (folder / split_name).mkdir(exist_ok=True)
                # FLORES+ asks that its sentences not be stored as plain text.
                _write_jsonl(folder / split_name / f"{language}.jsonl.gz", language_rows)
            else:
                name = language if source.layout == "language" else f"{split_name}.{language}"
                _write_jsonl(folder / f"{name}.jsonl", language_rows)


def _write_facts(folder: Path, by_language: Mapping[str, Sequence[dict[str, Any]]]) -> None:
    """Write rows that state the same fact in every language: `sub_<language>`, `obj_<language>`, and a `template`.

    Raises:
        ValueError: Two languages have different facts in the same row.
    """
    longest = max(by_language.values(), key=len)
    for language, rows in by_language.items():
        for number, (row, fact) in enumerate(zip(rows, longest, strict=False), 1):
            if any(row.get(key) != fact.get(key) for key in (f"sub_{language}", f"obj_{language}")):
                raise ValueError(f"row {number} of {language} and of another language are different facts")
    facts = [
        {
            "id": str(index),
            "relation": str(index),
            "subject": {code: row[f"sub_{code}"] for code in by_language if row.get(f"sub_{code}")},
            "object": {code: row[f"obj_{code}"] for code in by_language if row.get(f"obj_{code}")},
        }
        for index, row in enumerate(longest)
    ]
    templates = [
        {"relation": str(index), "language": language, "template": row["template"]}
        for language, rows in by_language.items()
        for index, row in enumerate(rows)
    ]
    _write_jsonl(folder / "facts.jsonl", facts)
    _write_jsonl(folder / "templates.jsonl", templates)


def _write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as JSON lines, gzipped if the name ends in `.gz`. Equal rows make equal bytes."""
    text = "".join(json.dumps(row, ensure_ascii=False, sort_keys=True, default=str) + "\n" for row in rows)
    content = text.encode()
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)


def commit_of(folder: Path) -> str | None:
    """Return the commit that a folder holds; None if it is not recorded, or if the files are of several commits.

    A git clone has it in its HEAD; uncommitted changes are not detected. A folder written by `hf download --local-dir`
    has it in the first line of each file's record.
    """
    git = folder / ".git"
    if git.is_file():  # in a worktree or submodule: "gitdir: <path>"
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
    common_file = git / "commondir"
    common = git / common_file.read_text(encoding="utf-8").strip() if common_file.is_file() else git
    if (common / name).is_file():
        return _commit((common / name).read_text(encoding="utf-8").strip())
    packed = common / "packed-refs"
    lines = packed.read_text(encoding="utf-8").splitlines() if packed.is_file() else []
    return next((_commit(line.split()[0]) for line in lines if line.split()[1:] == [name]), None)


def _commit(text: str) -> str | None:
    return text if _COMMIT.fullmatch(text) else None
