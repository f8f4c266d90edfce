"""Data sets of the Hugging Face Hub, read once through `datasets` and kept as the files that tasks read."""

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
"""Beside the files: the repository and commit that they were made of."""
UNKNOWN = "mirror"
"""The revision recorded where a mirror's copy does not say which it is."""
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class HubData:
    """The data sets of `SOURCES`, kept in folders of `cache`.

    With a `mirror`, a folder of clones `<organization>/<name>`, nothing is fetched. A clone at another commit than the
    pinned one is refused; of a copy that does not say its commit, `UNKNOWN` is recorded as the revision.
    """

    cache: Path
    mirror: Path | None = None

    def folder(self, name: str) -> Path:
        """Return the folder of a data set, which appears whole or not at all; the first call fetches it.

        Raises InvalidRequest where the Hub is out of reach, or does not let one in, with what to do about it.
        """
        source = SOURCES[name]
        patterns = [f"{name}-{(source.revision or '*')[:12]}", *([f"{name}-{UNKNOWN}"] if self.mirror else [])]
        there = [path for pattern in patterns for path in sorted(self.cache.glob(pattern))]
        if there := [path for path in there if (path / SOURCE_FILE).is_file()]:
            return there[0]
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
        made = Path(tempfile.mkdtemp(dir=self.cache, prefix=f".{name}-"))
        try:
            revision = self._revision(source)
            _write(made, source, {split: self._rows(source, split, revision) for split in source.splits})
            described = {"repo": source.repo, "revision": revision, "mirror": self.mirror is not None}
            (made / SOURCE_FILE).write_text(json.dumps(described), encoding="utf-8")
            made.chmod(0o755)
            target = self.cache / f"{name}-{revision[:12]}"
            if not target.exists():  # else another process was faster, with the same files
                made.rename(target)
        except (OSError, ValueError, DatasetsError, HfHubHTTPError) as error:
            where = f"the clone below {self.mirror}" if self.mirror else "the Hub"
            raise InvalidRequest(
                f"{source.repo} could not be read from {where}: {error}; put the files into a folder {name} of --data, "
                "or see that the Hub is in reach and its terms are accepted (HF_TOKEN)"
            ) from error
        finally:
            shutil.rmtree(made, ignore_errors=True)
        return target

    def _revision(self, source: HubSource) -> str:
        """Return the commit to read: the pinned one, or the newest where none is; of a mirror, the clone's."""
        if self.mirror is not None:
            return self._mirrored(source, self.mirror / source.repo)
        if source.revision is not None:
            return source.revision
        from huggingface_hub import snapshot_download

        found = snapshot_download(source.repo, repo_type="dataset", allow_patterns=["README.md"])
        return Path(found).name  # the cache's folder of a commit

    def _mirrored(self, source: HubSource, clone: Path) -> str:
        """Return the commit of a clone, or `UNKNOWN`; raises ValueError where it is not the pinned one."""
        commit = commit_of(clone)
        if commit is None:
            log.warning("%s does not say its commit; the revision of its data is recorded as unknown", clone)
            return UNKNOWN
        if source.revision not in (None, commit):
            raise ValueError(
                f"the clone is at commit {commit}, not at {source.revision}, which this data set is pinned to; run: "
                f"git -C {clone} checkout {source.revision}"
            )
        return commit

    def _rows(self, source: HubSource, split: str, revision: str) -> dict[str, list[dict[str, Any]]]:
        from datasets import load_dataset

        repo = source.repo if self.mirror is None else str(self.mirror / source.repo)
        asked = {} if self.mirror is not None else {"revision": revision}
        return {
            language: list(load_dataset(repo, config, split=split, **asked))
            for language, config in source.configs.items()
        }


def _write(folder: Path, source: HubSource, rows: Mapping[str, Mapping[str, Sequence[dict[str, Any]]]]) -> None:
    for split, by_language in rows.items():
        own = source.splits[split]
        if source.layout == "parallel facts":
            _write_facts(folder, by_language)
            continue
        for language, found in by_language.items():
            if source.layout == "split/language":
                (folder / own).mkdir(exist_ok=True)
                _write_jsonl(folder / own / f"{language}.jsonl.gz", found)  # not in plain form, as FLORES+ asks
            else:
                name = language if source.layout == "language" else f"{own}.{language}"
                _write_jsonl(folder / f"{name}.jsonl", found)


def _write_facts(folder: Path, by_language: Mapping[str, Sequence[dict[str, Any]]]) -> None:
    """Write rows that are the same fact in every language: `sub_<language>`, `obj_<language>`, the own `template`.

    Raises ValueError where a language's row is about another fact than the one in the same place elsewhere.
    """
    longest = max(by_language.values(), key=len)
    for language, rows in by_language.items():
        for at, (row, fact) in enumerate(zip(rows, longest, strict=False), 1):
            if any(row.get(key) != fact.get(key) for key in (f"sub_{language}", f"obj_{language}")):
                raise ValueError(f"row {at} of {language} is another fact than row {at} elsewhere; they do not align")
    facts = [
        {
            "id": str(at),
            "relation": str(at),
            "subject": {code: row[f"sub_{code}"] for code in by_language if row.get(f"sub_{code}")},
            "object": {code: row[f"obj_{code}"] for code in by_language if row.get(f"obj_{code}")},
        }
        for at, row in enumerate(longest)
    ]
    templates = [
        {"relation": str(at), "language": language, "template": row["template"]}
        for language, rows in by_language.items()
        for at, row in enumerate(rows)
    ]
    _write_jsonl(folder / "facts.jsonl", facts)
    _write_jsonl(folder / "templates.jsonl", templates)


def _write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows so that the same ones make the same bytes, compressed or not."""
    text = "".join(json.dumps(row, ensure_ascii=False, sort_keys=True, default=str) + "\n" for row in rows)
    content = text.encode()
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)


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
