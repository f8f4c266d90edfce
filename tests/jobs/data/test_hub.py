"""Data sets of the Hub, read from local clones by the library that would download them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import datasets
import huggingface_hub.constants
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ampsweep.errors import InvalidRequest, UnknownName
from jobs.data.hub import HubData, commit_of
from jobs.data.hub_sources import SOURCES, HubSource
from jobs.planning.catalog import Catalog
from jobs.tasks.registry import task_for
from tests.jobs.tasks.real_data import items

ROWS: dict[str, dict[str, Any]] = {
    "xcopa": {
        "premise": "Ha piovuto.",
        "choice1": "Fa caldo.",
        "choice2": "La strada è bagnata.",
        "question": "effect",
        "label": 1,
        "idx": 0,
        "changed": False,
    },
    "xwinograd": {"sentence": "A saw B because _ looked.", "option1": "A", "option2": "B", "answer": "1"},
    "include": {
        "language": "x",
        "question": "?",
        "option_a": "a",
        "option_b": "b",
        "option_c": "c",
        "option_d": "d",
        "answer": 2,
    },
    "flores200": {"id": 0, "iso_639_3": "x", "text": "A sentence."},
    "mlama_dod": {"template": "The capital of [X] is [Y] .", "sub_en": "GR-en", "obj_en": "Athens"}
    | {"sub_fr": "GR-fr", "obj_fr": "Athènes"},
}


pytestmark = pytest.mark.usefixtures("own_datasets_cache")


@pytest.fixture(autouse=True)
def few_languages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three languages of each source are enough, among them those that are called otherwise on the Hub."""
    chosen = ("fr", "it", "th", "ja", "et", "zh", "en")
    for name, source in SOURCES.items():
        some = [code for code in chosen if code in source.configs and source.configs[code] not in ("en", "fr")][-3:]
        configs = {
            code: source.configs[code] for code in sorted({*some, *(("en", "fr") if name == "mlama_dod" else ())})
        }
        monkeypatch.setitem(cast("dict[str, HubSource]", SOURCES), name, replace(source, configs=configs))


def clone(mirror: Path, name: str) -> None:
    """Write a repository as the Hub has it: a README that says which files a configuration's splits are."""
    source = SOURCES[name]
    folder = mirror / source.repo
    folder.mkdir(parents=True)
    head = ["---", "configs:"]
    for config in source.configs.values():
        head += [f"- config_name: {config}", "  data_files:"]
        for split in source.splits:
            pq.write_table(pa.Table.from_pylist([ROWS[name], ROWS[name]]), folder / f"{config}-{split}.parquet")
            head += [f"  - split: {split}", f"    path: {config}-{split}.parquet"]
    (folder / "README.md").write_text("\n".join([*head, "---", ""]), encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "task", "split", "language"),
    [
        ("xcopa", "xcopa", "test", "et"),
        ("xcopa", "xcopa", "val", "zh"),
        ("xwinograd", "xwinograd", None, "ja"),
        ("include", "include", None, "et"),
        ("flores200", "perplexity", "devtest", "zh"),
        ("flores200", "flores", "dev", "et"),
        ("mlama_dod", "lss", None, "fr"),
    ],
)
def test_a_data_set_of_the_hub_feeds_its_task(
    tmp_path: Path, name: str, task: str, split: str | None, language: str
) -> None:
    clone(tmp_path / "mirror", name)
    catalog = Catalog(models={}, hub=HubData(cache=tmp_path / "hub", mirror=tmp_path / "mirror"))
    folder = catalog.data_set(name)
    languages = task_for(task).languages(folder, split)
    assert language in languages
    expected = {"en", "fr"} if task == "lss" else set(SOURCES[name].configs) - ({"en"} if task == "flores" else set())
    assert languages == expected
    if task != "lss":
        assert len(items(task_for(task), folder, language, split=split).items) == 2
    described = json.loads((folder / "source.json").read_text())
    assert described["repo"] == SOURCES[name].repo
    assert described["revision"] == "mirror", "the copy does not say which commit it is"
    assert not [path for path in (tmp_path / "hub").iterdir() if path.name.startswith(".")]


def test_a_table_of_all_languages_is_divided(tmp_path: Path) -> None:
    source = SOURCES["clas"]
    folder = tmp_path / "mirror" / source.repo
    folder.mkdir(parents=True)
    rows = [{"language_code": code, "question_id": 1, "question": f"{code}?"} for code in source.configs.values()]
    pq.write_table(pa.Table.from_pylist([*rows, *rows]), folder / "train.parquet")
    head = ["---", "configs:", "- config_name: default", "  data_files:", "  - split: train", "    path: train.parquet"]
    (folder / "README.md").write_text("\n".join([*head, "---", ""]), encoding="utf-8")
    data_set = Catalog(models={}, hub=HubData(cache=tmp_path / "hub", mirror=tmp_path / "mirror")).data_set("clas")
    task = task_for("clas")
    assert task.languages(data_set, None) == set(source.configs)
    assert [item.doc_id for item in items(task, data_set, "ja").items] == ["0", "1"]


def test_a_downloaded_data_set_is_not_downloaded_again_and_is_byte_identical(tmp_path: Path) -> None:
    clone(tmp_path / "mirror", "flores200")
    first = HubData(cache=tmp_path / "hub", mirror=tmp_path / "mirror").folder("flores200")
    assert HubData(cache=tmp_path / "hub", mirror=tmp_path / "gone").folder("flores200") == first
    again = HubData(cache=tmp_path / "other", mirror=tmp_path / "mirror").folder("flores200")
    name = "devtest/zh.jsonl.gz"
    assert (first / name).read_bytes() == (again / name).read_bytes()


def test_a_clone_at_another_commit_than_the_pinned_one_is_refused(tmp_path: Path) -> None:
    clone(tmp_path / "mirror", "xcopa")
    git = tmp_path / "mirror" / SOURCES["xcopa"].repo / ".git"
    (git / "refs" / "heads").mkdir(parents=True)
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    (git / "refs" / "heads" / "main").write_text("f" * 40 + "\n")
    hub = HubData(cache=tmp_path / "hub", mirror=tmp_path / "mirror")
    pinned = SOURCES["xcopa"].revision
    assert pinned is not None
    with pytest.raises(
        InvalidRequest, match=f"at commit {'f' * 40}, but this data set is pinned to {pinned}.* checkout {pinned}"
    ):
        hub.folder("xcopa")
    assert list((tmp_path / "hub").iterdir()) == []
    (git / "HEAD").write_text(f"{pinned}\n")
    folder = hub.folder("xcopa")
    assert folder.name == f"xcopa-{pinned[:12]}"
    assert json.loads((folder / "source.json").read_text())["revision"] == pinned


def test_an_unpinned_clone_is_recorded_with_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clone(tmp_path / "mirror", "xcopa")
    sources = cast("dict[str, HubSource]", SOURCES)
    monkeypatch.setitem(sources, "xcopa", replace(sources["xcopa"], revision=None))
    git = tmp_path / "mirror" / SOURCES["xcopa"].repo / ".git"
    git.mkdir()
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    (git / "packed-refs").write_text(f"# pack-refs with: peeled\n{'e' * 40} refs/heads/main\n")
    folder = HubData(cache=tmp_path / "hub", mirror=tmp_path / "mirror").folder("xcopa")
    assert json.loads((folder / "source.json").read_text())["revision"] == "e" * 40


def test_the_commit_of_a_copy_made_by_hf_download_is_read(tmp_path: Path) -> None:
    records = tmp_path / ".cache" / "huggingface" / "download"
    records.mkdir(parents=True)
    assert commit_of(tmp_path) is None
    (records / "a.metadata").write_text(f"{'a' * 40}\netag\n0\n")
    assert commit_of(tmp_path) == "a" * 40
    (records / "b.metadata").write_text(f"{'b' * 40}\netag\n0\n")
    assert commit_of(tmp_path) is None, "files of two commits"


def test_an_unreachable_data_set_is_an_error_and_leaves_no_files(tmp_path: Path) -> None:
    catalog = Catalog(models={}, hub=HubData(cache=tmp_path / "hub", mirror=tmp_path))
    with pytest.raises(
        InvalidRequest, match=r"cambridgeltl/xcopa could not be read .* folder xcopa in the folder of --data"
    ) as caught:
        catalog.data_set("xcopa", param="tasks.0.data")
    assert caught.value.param == "tasks.0.data"
    assert list((tmp_path / "hub").iterdir()) == []


def test_files_of_the_server_come_before_the_hub_and_without_the_hub_it_is_not_asked(tmp_path: Path) -> None:
    (tmp_path / "data" / "xcopa").mkdir(parents=True)
    hub = HubData(cache=tmp_path / "hub", mirror=tmp_path)
    catalog = Catalog(models={}, data=tmp_path / "data", hub=hub)
    assert catalog.data_set("xcopa") == tmp_path / "data" / "xcopa"
    with pytest.raises(UnknownName, match="known: clas, flores200, include, include_lite, mlama_dod, xcopa, xwinograd"):
        catalog.data_set("chess")
    with pytest.raises(UnknownName, match=r"known: (none)?(;|$)"):
        Catalog(models={}).data_set("xcopa")


@pytest.mark.parametrize("name", ["xcopa", "include_lite"])
def test_without_a_network_the_error_names_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(InvalidRequest, match="could not be read from the Hub"):
        HubData(cache=tmp_path / "hub").folder(name)


def test_the_newest_commit_is_taken_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    commit = "0123456789abcdef0123456789abcdef01234567"
    repo = tmp_path / "cache" / ("datasets--" + SOURCES["include_lite"].repo.replace("/", "--"))
    for folder in (repo / "refs", repo / "snapshots" / commit):
        folder.mkdir(parents=True)
    (repo / "refs" / "main").write_text(commit)
    (repo / "snapshots" / commit / "README.md").write_text("")
    revisions = []

    def load(path: str, config: str, *, split: str, revision: str) -> list[dict[str, Any]]:
        revisions.append((path, config, split, revision))
        return [ROWS["include"]]

    monkeypatch.setattr(datasets, "load_dataset", load)
    folder = HubData(cache=tmp_path / "hub").folder("include_lite")
    assert folder.name == f"include_lite-{commit[:12]}"
    assert {revision for *_, revision in revisions} == {commit}
    (repo / "refs" / "main").write_text("f" * 40)
    assert HubData(cache=tmp_path / "hub").folder("include_lite") == folder


def test_parallel_facts_in_different_rows_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    greece = ROWS["mlama_dod"]
    china = {**greece, "sub_en": "CN-en", "obj_en": "Beijing", "sub_fr": "CN-fr", "obj_fr": "Pékin"}

    def load(path: str, config: str, *, split: str) -> list[dict[str, Any]]:
        del path, split
        return [china, greece] if config == "fr" else [greece, china]

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(InvalidRequest, match="row 1 of fr and of another language are different facts"):
        HubData(cache=tmp_path / "hub", mirror=tmp_path).folder("mlama_dod")
