from __future__ import annotations

from pathlib import Path

import pytest

from ampsweep.errors import InvalidRequest
from jobs.tasks.lm_eval.members import folders_of
from jobs.tasks.lm_eval.names import bundled_folder
from tests.jobs.tasks.lm_eval.tiny_groups import write_groups
from tests.jobs.tasks.lm_eval.tiny_tasks import write_tasks


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_groups(write_tasks(tmp_path / "tasks"))


def test_members_are_found_in_other_folders(folder: Path) -> None:
    assert folders_of("tiny_exam", folder) == (folder,)
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    members = "task: [tiny_history, xcopa_it]\naggregate_metric_list: [{metric: acc}]\n"
    (elsewhere / "_joined.yaml").write_text(f"group: joined\n{members}")
    assert folders_of("joined", folder) == (bundled_folder() / "xcopa", elsewhere, folder / "history")


def test_a_group_of_lm_eval_is_found(folder: Path) -> None:
    assert folders_of("global_mmlu_full_fr", folder) == (bundled_folder() / "global_mmlu" / "full" / "fr",)


def test_tasks_defined_in_the_file_of_a_group_need_no_file(folder: Path) -> None:
    own = "task: [{group: part, task: [{task: tiny_physics, num_fewshot: 1}, {task: inline, dataset_path: json}]}]\n"
    (folder / "_own.yaml").write_text(f"group: own\n{own}")
    assert folders_of("own", folder) == (folder,)


@pytest.mark.parametrize("line", ["process_docs: !function os.system", "include: ../../outside.yaml"])
def test_a_member_that_reaches_out_of_the_servers_folder_is_refused(folder: Path, line: str) -> None:
    (folder.parent / "outside.yaml").write_text("output_type: multiple_choice\n")
    (folder / "science" / "bad.yaml").write_text(f"task: bad\n{line}\n")
    (folder / "_reaching.yaml").write_text("group: reaching\ntask: [tiny_exam_science, bad]\n")
    with pytest.raises(InvalidRequest, match=r"not in the server's folder|outside the server's folder"):
        folders_of("reaching", folder)
