from __future__ import annotations

from pathlib import Path
from time import process_time
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from ampsweep.cli.app import app
from ampsweep.cli.commands.batch_line import parse
from ampsweep.cli.options.values import json_object
from ampsweep.cli.server.settings import read_settings
from ampsweep.documents import parse_json, parse_yaml, read_bounded, read_spec, yaml_position
from ampsweep.errors import InvalidRequest
from jobs.data.rows import read_rows


@pytest.mark.parametrize("parse_text", [parse_json, parse_yaml])
def test_a_duplicate_key_is_refused_by_name(parse_text: Any) -> None:
    assert parse_text('{"fr": {"0": [1]}, "tr": {"0": [1]}}') == {"fr": {"0": [1]}, "tr": {"0": [1]}}
    for text in ('{"fr": 1, "fr": 2}', '{"tr": [{"fr": 1, "fr": 2}]}'):
        with pytest.raises(InvalidRequest, match="the key 'fr' occurs twice in one object") as caught:
            parse_text(text)
        assert caught.value.param == "fr"
        with pytest.raises(InvalidRequest, match=r"neurons\.json: the key 'fr'") as caught:
            parse_text(text, source="neurons.json", param="file")
        assert caught.value.param == "file"


@pytest.mark.parametrize("parse_text", [parse_json, parse_yaml])
def test_a_duplicate_key_of_any_length_is_named_in_short(parse_text: Any) -> None:
    key = "k" * 1_000_000
    with pytest.raises(InvalidRequest, match=r"^the key 'kkk.*kkk' occurs twice in one object; keep one") as caught:
        parse_text(f'{{"{key}": 1, "{key}": 2}}')
    assert len(caught.value.message) < 400
    assert len(caught.value.param or "") < 200


@pytest.mark.parametrize(
    "value", ["1" + ":30" * 90_000, "!!float " + "x" * 90_000, "!" + "t" * 90_000 + " a", "*" + "a" * 90_000]
)
def test_a_value_of_any_length_is_shown_in_short(value: str, tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text(f"a: {value}\n")
    with pytest.raises(InvalidRequest, match=r"spec\.yaml is not YAML or JSON") as caught:
        read_spec(spec)
    assert len(caught.value.message) < 1000


def test_a_duplicate_among_many_keys_is_found_as_fast_as_they_are_read() -> None:
    keys = ", ".join(f"k{number}" for number in range(8000))
    started = process_time()
    parse_yaml(f"x: {{{keys}}}")
    unique = process_time() - started
    with pytest.raises(InvalidRequest, match="the key 'k7999' occurs twice"):
        parse_yaml(f"x: {{{keys}, k7999}}")
    assert process_time() - started < 4 * unique


def test_yaml_keys_of_two_types_are_two_and_a_merged_one_may_be_given_anew() -> None:
    assert parse_yaml("1: a\n'1': b\n") == {1: "a", "1": "b"}
    assert parse_yaml("base: &base {limit: 1}\ntask: {<<: *base, limit: 2}\n")["task"] == {"limit": 2}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_json_is_read_in_any_of_its_encodings(encoding: str) -> None:
    assert parse_json('{"a": "é"}'.encode(encoding)) == {"a": "é"}


def test_too_deep_nesting_is_rejected() -> None:
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_json("[" * 100_000)


def test_a_json_file_means_what_it_means_in_json() -> None:
    text = '{\n\t"name": "\\ud83e\\udd2f \\/", "factors": [1e-3, 2E+1]\n}'
    assert parse_yaml(text) == {"name": "🤯 /", "factors": [0.001, 20.0]} == parse_json(text)
    assert parse_yaml("{name: a, factors: [1e-3]}") == {"name": "a", "factors": [0.001]}, "YAML may begin like JSON"


@pytest.mark.parametrize(("word", "value"), [("1e3", 1000.0), ("-1.5E-2", -0.015), ("0x10", 16), ("1_000", 1000)])
def test_numbers_of_yaml(word: str, value: float) -> None:
    assert parse_yaml(f"a: {word}") == {"a": value}
    assert parse_yaml(f"a: {word}x") == {"a": f"{word}x"}


@pytest.mark.parametrize("word", ["010", "-0_7", "1:30", "12:30:45", "1:30.5"])
def test_numbers_that_mean_something_else_in_yaml_1_2_are_refused(word: str) -> None:
    with pytest.raises(yaml.YAMLError, match=rf"{word} is an octal or sexagesimal number"):
        parse_yaml(f"a: {word}")
    assert parse_yaml(f"a: '{word}'") == {"a": word}


@pytest.mark.parametrize("value", ['!!int ""', '!!float ""', "!!bool maybe", "!!timestamp x"])
def test_a_value_that_does_not_fit_its_tag_is_refused(value: str) -> None:
    with pytest.raises(yaml.YAMLError, match="does not fit its tag"):
        parse_yaml(f"seed: {value}")


@pytest.mark.parametrize(
    ("encoding", "reason"),
    [
        ("utf-16", r" \(it is UTF-16\)"),
        ("utf-16-le", r" \(it has NUL characters, as text in UTF-16 has\)"),
        ("utf-32", r" \(it is UTF-32\)"),
        ("latin-1", ""),
    ],
)
def test_a_spec_in_another_encoding_is_refused_with_the_remedy(tmp_path: Path, encoding: str, reason: str) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text("name: é\n", encoding=encoding)
    with pytest.raises(InvalidRequest, match=rf"spec\.yaml is not UTF-8 text{reason}; save it as UTF-8$"):
        read_spec(spec)
    spec.write_text("name: é\n", encoding="utf-8-sig")
    assert read_spec(spec) == {"name": "é"}


def test_json_in_another_encoding_says_how_to_save_it() -> None:
    with pytest.raises(ValueError, match=r"^it is not UTF-8 text; save it as UTF-8$"):
        parse_json('{"a": "é"}'.encode("latin-1"))
    assert parse_json('{"a": "é"}'.encode("utf-8-sig")) == {"a": "é"}


@pytest.mark.parametrize("text", ["seed: " + "[" * 600 + "]" * 600, "seed: 2024-13-45", "seed: " + "9" * 5000])
def test_a_spec_that_cannot_be_parsed_is_refused_by_its_file(tmp_path: Path, text: str) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text(text)
    with pytest.raises(InvalidRequest, match=r"spec\.yaml is not YAML or JSON: ") as caught:
        read_spec(spec)
    assert caught.value.param == "spec"


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("name: a\nmodel: [tiny\ntasks: []\n", r"expected ',' or '\]'.*\(line 3, column 6\)$"),
        ("name: a\n\tmodel: tiny\n", r"cannot start any token \(line 2, column 1\)$"),
        ("name: a\nmodel: b: c\n", r"mapping values are not allowed here \(line 2, column 9\)$"),
    ],
)
def test_an_error_of_yaml_names_line_and_column(tmp_path: Path, text: str, where: str) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text(text)
    with pytest.raises(InvalidRequest, match=where):
        read_spec(spec)


@pytest.mark.parametrize("line", ["[" * 100_000, '{"text": ' + "9" * 5000 + "}"])
def test_a_row_that_cannot_be_parsed_is_refused_by_its_line(tmp_path: Path, line: str) -> None:
    rows = tmp_path / "fr.jsonl"
    rows.write_text(f'{{"text": "un"}}\n{line}\n')
    with pytest.raises(InvalidRequest, match=r"fr\.jsonl, line 2 is not JSON: "):
        read_rows(rows)


def test_every_file_and_option_of_a_user_is_read_so(tmp_path: Path) -> None:
    spec, rows = tmp_path / "spec.yaml", tmp_path / "fr.jsonl"
    spec.write_text("name: a\nmodel: tiny\nname: b\n")
    rows.write_text('{"text": "un"}\n{"text": "deux", "text": "trois"}\n')
    with pytest.raises(InvalidRequest, match=r"spec\.yaml: the key 'name' occurs twice .* \(line 3\)$") as caught:
        read_spec(spec)
    assert caught.value.param == "spec"
    with pytest.raises(InvalidRequest, match=r"fr\.jsonl, line 2: the key 'text' occurs twice"):
        read_rows(rows)
    with pytest.raises(InvalidRequest, match="the key 'factor' occurs twice") as caught:
        json_object('{"op": "scale", "factor": 1, "factor": 2}', param="intervention")
    assert caught.value.param == "intervention"
    with pytest.raises(InvalidRequest, match="the key 'prompt' occurs twice"):
        parse('{"kind": "generate", "custom_id": "1", "prompt": "a", "prompt": "b"}')
    with pytest.raises(InvalidRequest, match="a is set twice"):
        read_settings(corpora=["a=one", "a=two"])


def test_a_doubled_language_of_export_is_refused(model: Path, tmp_path: Path) -> None:
    neurons = tmp_path / "neurons.json"
    neurons.write_text('{"fr": {"0": [3]}, "fr": {"0": [4, 5]}}')
    intervention = '{"languages": ["fr"], "op": "scale", "factor": 2}'
    command = ["export", "--model", str(model), "--neurons", str(neurons), "--intervention", intervention]
    result = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert "the key 'fr' occurs twice" in result.stderr


@pytest.mark.parametrize("text", ['{"name": "é", "seed": 3}', "name: é\nseed: 3\n"])
def test_a_byte_order_mark_at_the_head_changes_nothing(tmp_path: Path, text: str) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(text, encoding="utf-8-sig")
    assert read_spec(path) == {"name": "é", "seed": 3}


def test_the_position_of_a_value_in_yaml() -> None:
    text = "name: x\ntasks:\n  - {name: lss, limit: 4}\n  - name: xcopa\n"
    assert yaml_position(text, "name") == (1, 1)
    assert yaml_position(text, "tasks.0.limit") == (3, 17)
    assert yaml_position(text, "tasks.1.languages") == (4, 5), "where it is missing"
    assert yaml_position("", "name") is None


def test_a_number_of_thousands_of_digits_is_refused_without_advice_for_python_programmers(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"it has an integer of thousands of digits; write a smaller one$"):
        parse_json("9" * 5_000)
    path = tmp_path / "spec.yaml"
    path.write_text(f"seed: {'9' * 5_000}\n")
    with pytest.raises(InvalidRequest, match=r"it has an integer of thousands of digits; write a smaller one$"):
        read_spec(path)


def test_an_endless_file_is_not_read_to_its_end(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.write_bytes(b"0" * 1024**2)
    assert len(read_bounded(small, limit=1024**2, param="spec")) == 1024**2
    with pytest.raises(InvalidRequest, match="/dev/zero has more than 1 MiB; give a smaller file") as refused:
        read_bounded(Path("/dev/zero"), limit=1024**2, param="spec")
    assert refused.value.param == "spec"
