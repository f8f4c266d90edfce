"""The commands that load a model themselves, on the fake engine: identify, neurons, generate."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch

from ampsweep.cli.options.engine import SHORT_JOB, whether_to_compile
from ampsweep.folders.model import read_model_folder
from engine.fake import FakeEngine
from engine.neurons.neuron_set import NeuronSet
from tests.ampsweep.cli.commands.local_commands import STEERED, call, call_batch


def test_identify_writes_a_neuron_set_with_every_language(neurons: Path) -> None:
    neuron_set = NeuronSet.load(neurons)
    assert neuron_set.languages == ("en", "fr")
    assert neuron_set.method == "lape"
    assert neuron_set.patch is not None


def test_a_stopped_identification_says_how_to_continue(
    model: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def interrupted(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.Event().wait()

    options = ("--corpus", corpus, "--engine", "fake", "--out", tmp_path / "out")
    with monkeypatch.context() as patched:
        patched.setattr(FakeEngine, "record", interrupted)
        result = call("identify", "--model", model, *options)
    assert (result.exit_code, (tmp_path / "out").exists()) == (130, False)
    assert result.stderr.endswith("warning: stopped; run the same command to continue\n")
    assert call("identify", "--model", model, *options).exit_code == 0


def test_identify_takes_languages_method_and_parameters(model: Path, corpus: Path, tmp_path: Path) -> None:
    options = ("--languages", "fra_Latn", "--method", "act_prob", "--param", "neurons=7", "--engine", "fake")
    result = call("identify", "--model", model, "--corpus", corpus, "--out", tmp_path / "out", *options)
    assert result.exit_code == 0, result.output
    assert len(NeuronSet.load(tmp_path / "out").neurons["fr"]) == 7


def test_identify_by_average_precision(model: Path, corpus: Path, tmp_path: Path) -> None:
    folder = tmp_path / "gemma-2-2b-it"  # a published model by its name
    shutil.copytree(model, folder)
    options = ("--method", "average_precision", "--engine", "fake")
    result = call("identify", "--model", folder, "--corpus", corpus, "--out", tmp_path / "out", *options)
    assert result.exit_code == 0, result.output
    assert "average_precision compares languages" in result.stderr
    neuron_set = NeuronSet.load(tmp_path / "out")
    assert (neuron_set.method, neuron_set.params["neurons"]) == ("average_precision", 354)
    assert {len(pairs) for pairs in neuron_set.neurons.values()} == {4 * 32}, "no more than the model has"


@pytest.mark.parametrize("method", ["lape", "random"])
def test_identify_refuses_to_compare_one_language(method: str, model: Path, corpus: Path, tmp_path: Path) -> None:
    options = ("--languages", "fr", "--method", method, "--engine", "fake")
    result = call("identify", "--model", model, "--corpus", corpus, "--out", tmp_path / "out", *options)
    assert result.exit_code == 2
    assert result.stderr == f"error: --languages: {method} compares languages; give at least two (got fr)\n"
    assert not (tmp_path / "out").exists()


def test_identify_warns_where_few_languages_are_compared(model: Path, corpus: Path, tmp_path: Path) -> None:
    options = ("--engine", "fake", "--json")
    result = call("identify", "--model", model, "--corpus", corpus, "--out", tmp_path / "out", *options)
    assert result.stderr.startswith("warning: lape compares languages, and 2 (en, fr) are few")
    assert len(json.loads(result.stdout)["warnings"]) == 1


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("--method", "guess"), "method"),
        (("--languages", "fr,xx"), "language 'xx'; known: en, fr"),
        (("--param", "top_rate"), "NAME=VALUE"),
        (("--param", "rate=1"), "--param: lape has no parameter rate"),
        (("--model", "/no/such/model"), "model"),
        (("--engine", "llama"), "known: fake, transformers, vllm"),
    ],
)
def test_identify_names_what_is_wrong(
    change: tuple[str, str], complaint: str, model: Path, corpus: Path, tmp_path: Path
) -> None:
    options = {"--model": model, "--corpus": corpus, "--out": tmp_path / "out", "--engine": "fake"} | dict([change])
    result = call("identify", *(part for pair in options.items() for part in pair))
    assert result.exit_code == 2
    (error,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert complaint in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--param", "top_rate=["), "param: must be NAME=VALUE with a number as value; got 'top_rate=['"),
        (
            ("--param", "top_rate=2024-13-45"),
            "param: must be NAME=VALUE with a number as value; got 'top_rate=2024-13-45'",
        ),
        (("--param", "top_rate=0.1", "--param", "top_rate=0.5"), "the key 'top_rate' occurs twice in one object"),
        (("--param", "top_rate=010"), "param: must be NAME=VALUE with a number as value; got 'top_rate=010'"),
        (("--languages", ","), "languages must be at least one"),
        (("--dtype", "int8"), "dtype: must be float32, bfloat16 or float16; got 'int8'"),
    ],
)
def test_identify_refuses_options_without_a_clear_value(
    options: tuple[str, ...], complaint: str, model: Path, corpus: Path, tmp_path: Path
) -> None:
    result = call("identify", "--model", model, "--corpus", corpus, "--out", tmp_path / "out", *options)
    assert result.exit_code == 2
    assert complaint in result.stderr


def test_a_prompt_that_is_not_utf_8_is_refused(model: Path) -> None:
    result = call("generate", "caf\udce9", "--model", model, "--engine", "fake")
    assert result.exit_code == 2
    assert result.stderr == "error: prompt: must be valid UTF-8 text; got 'caf\\udce9'\n"


def test_neurons_are_exported_imported_and_shown(neurons: Path, model: Path, tmp_path: Path) -> None:
    file = tmp_path / "neurons.json"
    assert call("neurons", "export", neurons, "--out", file).exit_code == 0
    assert json.loads(call("neurons", "export", neurons).stdout) == json.loads(file.read_text())
    result = call("neurons", "import", file, "--model", model, "--out", tmp_path / "imported")
    assert result.exit_code == 0, result.output
    before, after = NeuronSet.load(neurons), NeuronSet.load(tmp_path / "imported")
    assert {code: pairs.tolist() for code, pairs in before.neurons.items()} == {
        code: pairs.tolist() for code, pairs in after.neurons.items()
    }
    shown = call("neurons", "show", neurons).stdout
    assert before.id in shown
    assert f"{len(before.neurons['fr'])}   by layer:" in shown


def test_an_import_names_what_is_wrong(model: Path, tmp_path: Path) -> None:
    file = tmp_path / "neurons.json"
    file.write_text('{"fr": {"9": [1]}}')
    result = call("neurons", "import", file, "--model", model, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "layers 0 to 3" in result.stderr


def test_mean_activations_are_imported_with_the_neurons(model: Path, tmp_path: Path) -> None:
    file = tmp_path / "neurons.json"
    file.write_text('{"fr": {"0": [1]}, "tr": {"1": [2]}}')
    shape = read_model_folder(model, name="tiny")
    for language in ("fr", "tr"):
        torch.save({"average_activations": torch.ones(*shape.widths.shape)}, tmp_path / f"activation.{language}.x")
    arguments = ("neurons", "import", file, "--model", model, "--out", tmp_path / "out")
    result = call(*arguments, "--means", tmp_path / "activation.{language}.x")
    assert result.exit_code == 0, result.output
    assert "with patch values mean" in call("neurons", "show", tmp_path / "out").stdout
    refused = call(*arguments, "--means", tmp_path / "{language}.pt")
    assert refused.exit_code == 2
    assert "there is no file" in refused.stderr


def test_lists_of_tensors_are_imported_under_the_languages_beside_them(model: Path, tmp_path: Path) -> None:
    lists, order = tmp_path / "qwen0.5_flores", tmp_path / "ld_flores200"
    torch.save([[torch.tensor([3])] * 4, [torch.tensor([])] * 4], lists)
    torch.save({0: "fra_Latn", 1: "eng_Latn"}, order)
    arguments = ("neurons", "import", lists, "--model", model, "--out", tmp_path / "out")
    assert "--languages" in call(*arguments).stderr
    assert "not both" in call(*arguments, "--languages", "fr,en", "--languages-from", order).stderr
    assert call(*arguments, "--languages-from", order).exit_code == 0
    assert {code: len(pairs) for code, pairs in NeuronSet.load(tmp_path / "out").neurons.items()} == {"fr": 4, "en": 0}
    by_file = NeuronSet.load(tmp_path / "out").id
    assert call(*arguments, "--languages", "fra_Latn, eng").exit_code == 0
    assert NeuronSet.load(tmp_path / "out").id == by_file
    assert "fr and fra_Latn are one language" in call(*arguments, "--languages", "fr,fra_Latn").stderr


def test_the_output_of_local_commands_as_json(model: Path, corpus: Path, tmp_path: Path) -> None:
    local, out = ("--model", model, "--engine", "fake", "--json"), tmp_path / "neurons"
    identified = json.loads(call("identify", "--corpus", corpus, "--out", out, *local).stdout)
    assert (identified["folder"], set(identified["languages"])) == (str(out), {"en", "fr"})
    shown = json.loads(call("neurons", "show", out, "--json").stdout)
    assert (shown["id"], shown["languages"], shown["patch"]) == (identified["id"], identified["languages"], True)
    assert {language: sum(counts) for language, counts in shown["by_layer"].items()} == identified["languages"]
    written = json.loads(call("neurons", "export", out, "--out", tmp_path / "neurons.json", "--json").stdout)
    assert written == {"id": identified["id"], "file": str(tmp_path / "neurons.json")}
    taken = call("neurons", "import", written["file"], "--model", model, "--out", tmp_path / "taken", "--json")
    assert json.loads(taken.stdout)["languages"] == identified["languages"]
    generated = json.loads(call("generate", "Hello", "--max-tokens", 3, *local).stdout)
    assert (len(generated["text"].split()), generated["finish_reason"], generated["neuron_set"]) == (3, "length", None)
    (tmp_path / "in.jsonl").write_text('{"custom_id": "a", "kind": "generate", "prompt": "Hello"}\nno json\n')
    done = json.loads(call("batch", tmp_path / "in.jsonl", tmp_path / "out.parquet", *local).stdout)
    assert done == {"rows": 2, "failed": 1, "file": str(tmp_path / "out.parquet")}


def test_generate_streams_the_text_steered_and_not(model: Path, neurons: Path) -> None:
    options = ("generate", "Hello", "--model", model, "--engine", "fake", "--max-tokens", 4)
    plain = call(*options)
    assert plain.exit_code == 0, plain.output
    assert len(plain.stdout.split()) == 4
    short = call(*options, "--neurons", neurons, "--languages", "fr", "--factor", 5)
    assert call(*options, "--neurons", neurons, "--languages", "fra_Latn", "--factor", 5).stdout == short.stdout
    whole = call(*options, "--neurons", neurons, "--intervention", json.dumps(STEERED))
    assert short.stdout == whole.stdout != plain.stdout
    assert f"steered by neuron set {NeuronSet.load(neurons).id}\n" in short.stderr
    assert "neuron set" not in plain.stderr


def test_generate_says_which_tokens_were_steered_if_that_depends_on_the_text(model: Path, neurons: Path) -> None:
    drift = {"min_characters": 10, "window": 60, "every": 10, "switch_on": 1, "confidence": 0}
    options = ("generate", "Hello", "--model", model, "--engine", "fake", "--max-tokens", 12, "--neurons", neurons)
    drifting = ("--intervention", json.dumps({**STEERED, "when": {"drift": drift}}))
    ((first, end),) = json.loads(call(*options, *drifting, "--json").stdout)["steered_spans"]
    assert (0 < first < 12, end) == (True, 12)
    assert f"steered tokens of the answer: {first} to 11\n" in call(*options, *drifting).stderr


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--languages", "fr", "--factor", "5"), "ampsweep identify"),
        (("--intervention", "{"), "intervention: is not JSON"),
        (
            ("--intervention", '{"op": "scale", "factor": 2}', "--neurons", "NEURONS"),
            "--intervention: intervention.languages is required",
        ),
        (("--languages", "fr", "--neurons", "NEURONS"), "--factor: a magnitude is required"),
        (("--op", "set", "--factor", "3", "--neurons", "NEURONS"), "leave out --op, --factor, --neurons"),
        (("--neurons", "NEURONS"), "leave out --neurons"),
        (("--patch", "max"), "leave out --patch"),
        (("--dtype", "int8"), "dtype: must be float32, bfloat16 or float16; got 'int8'"),
        (("--languages", ",", "--factor", "3", "--neurons", "NEURONS"), "--languages: list should"),
        (("--factor", "3", "--intervention", json.dumps(STEERED), "--neurons", "NEURONS"), "leave out --factor"),
    ],
)
def test_generate_names_what_is_wrong(options: tuple[str, ...], complaint: str, model: Path, neurons: Path) -> None:
    arguments = [neurons if option == "NEURONS" else option for option in options]
    result = call("generate", "Hello", "--model", model, "--engine", "fake", *arguments)
    assert result.exit_code == 2
    assert complaint in result.stderr


@pytest.mark.parametrize(
    ("wanted", "requests", "gpu", "expected"),
    [
        (None, 1, False, False),
        (None, SHORT_JOB, False, False),
        (None, SHORT_JOB + 1, False, True),
        (None, 1, True, True),
        (True, 1, False, True),
        (False, SHORT_JOB + 1, True, False),
    ],
)
def test_a_short_job_on_a_cpu_is_not_compiled_unless_the_user_says_so(
    wanted: bool | None,
    requests: int,
    gpu: bool,
    expected: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("worker.resources.gpus.has_gpu", lambda: gpu)
    assert whether_to_compile(wanted, kind="vllm", requests=requests, as_json=False) is expected
    is_told = wanted is None and not expected
    assert capsys.readouterr().err == ("note: a short job: vLLM does not compile the model (--compile)\n" * is_told)


def test_only_vllm_compiles(model: Path) -> None:
    result = call("generate", "Hello", "--model", model, "--engine", "fake", "--compile")
    assert result.exit_code == 2
    assert result.stderr == "error: --compile: only the engine vllm compiles, not fake; leave the option out\n"


def test_a_language_without_neurons_is_refused_wherever_it_is_steered_to(model: Path, tmp_path: Path) -> None:
    (tmp_path / "neurons.json").write_text('{"fr": {"1": [3]}, "ht": {}}')
    neurons = tmp_path / "imported"
    assert call("neurons", "import", tmp_path / "neurons.json", "--model", model, "--out", neurons).exit_code == 0
    intervention = {"languages": ["ht"], "op": "scale", "factor": 2}
    result = call(
        *("generate", "Hello", "--model", model, "--engine", "fake", "--neurons", neurons),
        *("--intervention", json.dumps(intervention), "--json"),
    )
    assert result.exit_code == 2
    error = json.loads(result.stderr)["error"]
    assert (error["code"], error["param"]) == ("no_neurons", "intervention.languages")
    assert "languages with neurons: fr (1)" in error["message"]
    line = {"custom_id": "a", "kind": "score", "context": "a", "continuation": "b"}
    elsewhere = {**intervention, "languages": ["fr"], "layers": [0]}
    lines: list[object] = [{**line, "intervention": each} for each in (intervention, elsewhere, None)]
    _, rows = call_batch(model, tmp_path, lines, "--neurons", neurons)
    assert [row["logprobs"] is None for row in rows] == [True, True, False]
    assert "no neurons of ht" in rows[0]["error"]
    assert "no neurons of fr in layers 0, only in 1" in rows[1]["error"]
    out = tmp_path / "out"
    result = call(
        "export", "--model", model, "--neurons", neurons, "--intervention", json.dumps(intervention), "--out", out
    )
    assert (result.exit_code, out.exists()) == (2, False)
    assert "no neurons of ht" in result.stderr
