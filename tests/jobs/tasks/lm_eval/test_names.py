from __future__ import annotations

from pathlib import Path

import pytest

from ampsweep.errors import InvalidRequest, UnknownName
from jobs.cell import TaskRef
from jobs.tasks.lm_eval.names import bundled_folder, for_language, languages_of, task_names, yaml_of
from jobs.tasks.lm_eval.task import LmEval
from tests.jobs.tasks.lm_eval.tiny_tasks import NAMES, write_tasks


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tasks(tmp_path / "tasks")


def test_tasks_of_the_server_are_found_by_name(folder: Path) -> None:
    assert [yaml_of(name, folder).name for name in NAMES] == [f"{name}.yaml" for name in NAMES]


def test_a_task_behind_a_byte_order_mark_is_found(folder: Path) -> None:
    path = folder / f"{NAMES[0]}.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert yaml_of(NAMES[0], folder) == path


def test_tasks_that_come_with_lm_eval_are_found_beside_them(folder: Path) -> None:
    assert yaml_of("xcopa_it", folder).is_relative_to(bundled_folder())
    assert {"et", "it", "zh"} <= languages_of("xcopa_{language}", folder)
    assert "fr" in languages_of("belebele_{flores}", folder)
    assert languages_of("tiny_{language}", folder) >= {"en"}


@pytest.mark.parametrize(
    "name", ["chess", "tiny_choice.yaml", "../tasks/tiny_choice", "/etc/passwd", "mmlu_stem_tasks", "no_{language}"]
)
def test_an_unknown_task_is_rejected_with_the_servers_tasks(folder: Path, name: str) -> None:
    with pytest.raises(UnknownName, match="tiny_choice"):
        languages_of(name, folder)


@pytest.mark.parametrize(
    ("name", "end"),
    [
        ("tiny_choices", "Did you mean 'tiny_choice'?"),
        ("xcopa_itt", "Did you mean 'xcopa_it'?"),
        ("chess", "tiny_rolling, tiny_until"),
        ("xcopa_{langage}", "tiny_rolling, tiny_until"),
        ("xcopa_it" * 30, "tiny_rolling, tiny_until"),
    ],
)
def test_a_name_that_is_spelled_alike_is_suggested(folder: Path, name: str, end: str) -> None:
    with pytest.raises(UnknownName) as error:
        languages_of(name, folder)
    assert error.value.message.endswith(end)


def test_without_a_folder_of_the_server_the_error_says_how_to_name_one() -> None:
    with pytest.raises(UnknownName, match="AMPSWEEP_LM_EVAL_TASKS names a folder with others"):
        languages_of("my_own", bundled_folder())


@pytest.mark.parametrize(
    ("name", "language", "expected"),
    [
        ("xcopa_{language}", "it", "xcopa_it"),
        ("belebele_{flores}", "fr", "belebele_fra_Latn"),
        ("belebele_{flores}", "de", "belebele_deu_Latn"),
        ("belebele_{flores}", "ar", "belebele_arb_Arab"),
        ("belebele_{flores}", "zho_Hant", "belebele_zho_Hant"),
        ("belebele_{language}", "fr", "belebele_fra_Latn"),
        ("belebele_{language}", "de", "belebele_deu_Latn"),
        ("xcopa_{flores}", "it", "xcopa_it"),
        ("ntrex_eng_Latn-{flores}_prompt_1", "ms", "ntrex_eng_Latn-msa_Latn_prompt_1"),
        ("xwinograd_{language}", "ja", "xwinograd_jp"),
        ("mgsm_direct_{language}", "ja", "mgsm_direct_ja"),
        ("afrimmlu_direct_{language}_prompt_1", "fr", "afrimmlu_direct_fra_prompt_1"),
        ("afrimmlu_direct_{language}_prompt_1", "sw", "afrimmlu_direct_swa_prompt_1"),
        ("include_base_44_{language}_stem", "tr", "include_base_44_turkish_stem"),
    ],
)
def test_a_placeholder_is_the_data_language_as_the_task_spells_it(
    folder: Path, name: str, language: str, expected: str
) -> None:
    assert language in languages_of(name, folder)
    assert for_language(name, language, folder) == expected
    assert yaml_of(expected, folder).is_file()


def test_a_name_has_one_placeholder_for_a_language(folder: Path) -> None:
    with pytest.raises(InvalidRequest, match="more than one placeholder"):
        languages_of("flores_{flores}-{language}_prompt_1", folder)


@pytest.mark.parametrize(
    "name", ["belebele_{flores}", "belebele_{language}", "xwinograd_{language}", "arc_{language}", "xnli_{language}"]
)
def test_other_words_in_the_placeholder_are_not_languages(folder: Path, name: str) -> None:
    languages = languages_of(name, folder)
    assert "fr" in languages
    assert not {"jp", "fra_prompt_1", "challenge", "easy", "es_spanish_bench", "eu_native"} & languages
    assert all(for_language(name, language, folder) in task_names(folder) for language in languages)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("process_docs: !function os.system", "names the function os.system"),
        ("process_docs: !function ..evil.run", "names the function"),
        ("include: ../outside.yaml", "outside the server's folder"),
        ("include: /etc/hostname.yaml", "outside the server's folder"),
        ("include: bad.yaml", "bad.yaml includes itself; remove one of the includes"),
        ("process_docs: [", "cannot be read"),
        (f"process_docs: {'[' * 600}", "cannot be read"),
    ],
)
def test_a_task_that_reaches_out_of_its_folder_is_refused(folder: Path, line: str, message: str) -> None:
    (folder.parent / "outside.yaml").write_text("output_type: multiple_choice\n")
    (folder.parent / "evil.py").write_text("def run(docs): return docs\n")
    (folder / "bad.yaml").write_text(f"task: bad\n{line}\n")
    with pytest.raises(InvalidRequest, match=message):
        yaml_of("bad", folder)
    assert yaml_of("tiny_until", folder).name == "tiny_until.yaml"  # whose function lies beside it


def test_a_link_out_of_the_folder_is_refused(folder: Path) -> None:
    (folder.parent / "elsewhere.yaml").write_text("task: linked\n")
    (folder / "linked.yaml").symlink_to(folder.parent / "elsewhere.yaml")
    with pytest.raises(InvalidRequest, match="outside the server's folder"):
        yaml_of("linked", folder)


def test_folders_and_broken_links_hide_no_task(folder: Path) -> None:
    (folder / "archive.yaml").mkdir()
    (folder / "gone.yaml").symlink_to(folder / "nowhere.yaml")
    assert yaml_of("tiny_until", folder).name == "tiny_until.yaml"


def test_tasks_whose_data_is_known_to_be_wrong_are_named(folder: Path) -> None:
    def warned(name: str, *languages: str) -> list[str]:
        refs = [
            TaskRef(
                name=name,
                version=1,
                data_language=language,
                target_language=None,
                limit=None,
                split=None,
                data=None,
                data_hash="",
            )
            for language in languages
        ]
        return LmEval(name).warnings(folder, refs)

    thai, swahili = warned("lm_eval:xcopa_{language}", "th", "zh", "sw")
    assert thai.startswith("lm_eval:xcopa_th: 250 of XCOPA's 500 test items")
    assert swahili.startswith("lm_eval:xcopa_sw: 37 of XCOPA's 500 test items")
    assert warned("lm_eval:xcopa_tr", "tr")[0].startswith("lm_eval:xcopa_tr: 51 of")
    assert warned("lm_eval:belebele_{flores}", "th") == []
