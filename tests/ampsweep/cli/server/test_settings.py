"""The settings of a server: their sources, which one takes precedence, and invalid values."""

from __future__ import annotations

from pathlib import Path

import pytest

import ampsweep.cli.server.settings as settings_module
from ampsweep.bundled import ATLAS_CORPUS
from ampsweep.cli.server.settings import ServedModel, misspelled_variables, read_settings
from ampsweep.errors import InvalidRequest


def test_the_defaults_offer_the_atlas_on_the_loopback_interface() -> None:
    settings = read_settings(atlas=True)
    assert (settings.host, settings.port, settings.engine, settings.dtype) == ("127.0.0.1", 8700, "vllm", "float32")
    assert list(settings.served()) == ["atlas"]
    assert settings.all_corpora() == {"atlas": ATLAS_CORPUS}


def test_an_option_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMPSWEEP_PORT", "9000")
    assert read_settings().port == 9000
    assert read_settings(port=9001).port == 9001
    assert read_settings(port=None).port == 9000


def test_a_variable_that_is_almost_that_of_a_setting_is_named() -> None:
    other = [
        "AMPSWEEP_URL",
        "AMPSWEEP_PORT",
        "ampsweep_port",
        "AMPSWEEP_SERVICE_HOST",
        "AMPSWEEP_PORT_8700_TCP",
        "PATH",
    ]
    assert misspelled_variables([*other, "AMPSWEEP_REAL_MODELS", "AMPSWEEP_DOMAIN"]) == []
    misspelled = {"AMPSWEEP_MODEL": "MODELS", "AMPSWEEP_KEEP_DAY": "KEEP_DAYS", "AMPSWEEP_CORPUS": "CORPORA"}
    assert misspelled_variables(misspelled) == [
        f"{name} is no setting and has no effect; did you mean AMPSWEEP_{misspelled[name]}?"
        for name in sorted(misspelled)
    ]


def test_models_are_pairs_or_a_file(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_settings(models=[f"a={model}", f"b={model}"]).models["b"] == ServedModel(path=model)
    file = tmp_path / "models.yaml"
    file.write_text(f"small: {model}\nlarge: {{path: {model}, engines: 2, gpus: 1}}\n")
    monkeypatch.setenv("AMPSWEEP_MODELS", str(file))
    settings = read_settings(atlas=False)
    assert settings.served() == {
        "small": ServedModel(path=model),
        "large": ServedModel(path=model, engines=2, gpus=1.0),
    }
    monkeypatch.setenv("AMPSWEEP_MODELS", f"x={model},y={model}")
    assert list(read_settings(atlas=False).served()) == ["x", "y"]


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"port": -1}, "port"),
        ({"engine": "llama"}, "engine"),
        ({"models": ["a"]}, "models"),
        ({"models": ["a=/no/such/folder"]}, "models.a"),
        ({"models": {"a": {"path": "/tmp", "engine": 1}}}, "models.a.engine"),
        ({"corpora": ["a=/no/such/folder"]}, "corpora.a"),
        ({"cells_per_engine": 0}, "cells_per_engine"),
    ],
)
def test_a_bad_option_is_named(options: dict[str, object], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read_settings(**options)
    assert refused.value.param == param


def test_an_empty_variable_is_an_unset_one(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = read_settings()
    for name in ("home", "results", "keys", "models", "port", "otlp_endpoint", "data"):
        monkeypatch.setenv(f"AMPSWEEP_{name.upper()}", "")
    assert read_settings() == expected


def test_a_bad_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMPSWEEP_DTYPE", "float8")
    with pytest.raises(InvalidRequest, match="AMPSWEEP_DTYPE"):
        read_settings()


@pytest.mark.parametrize("setting", ["models", "corpora"])
@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "there is no file"), ("a: [", "is not YAML or JSON"), ("- a", "must hold a mapping")],
)
def test_a_file_of_settings_that_cannot_be_read_is_named_with_its_setting(
    setting: str, content: str | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "list.yaml"
    if content is not None:
        file.write_text(content)
    variable = f"AMPSWEEP_{setting.upper()}"
    monkeypatch.setenv(variable, str(file))
    with pytest.raises(InvalidRequest, match=rf"{variable}: .*{message}|{variable}: .*list\.yaml {message}") as refused:
        read_settings()
    assert refused.value.param == variable
    assert str(file) in refused.value.message
    monkeypatch.delenv(variable)
    with pytest.raises(InvalidRequest, match=message) as refused:
        read_settings(**{setting: str(file)})
    assert refused.value.param == setting


def test_a_secret_may_be_a_file_and_everything_else_wins_over_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings_module, "SECRETS", tmp_path)
    (tmp_path / "ampsweep_database_url").write_text("postgresql://u:p@host/db\n")
    (tmp_path / "ray_token").write_text("not a setting")
    assert read_settings().database_url == "postgresql://u:p@host/db"
    monkeypatch.setenv("AMPSWEEP_DATABASE_URL", "postgresql://other/db")
    assert read_settings().database_url == "postgresql://other/db"


def test_adapters_belong_to_the_only_model_or_are_listed_in_the_file_of_models(model: Path, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    pair = [f"formal={adapter}"]
    served = read_settings(models=[f"a={model}"], lora=pair, atlas=True).served()
    assert (served["a"].lora, served["atlas"].lora) == ({"formal": adapter}, {})
    assert read_settings(lora=pair, atlas=True).served()["atlas"].lora == {"formal": adapter}
    settings = read_settings(models=[f"a={model}", f"b={model}"], lora=pair)
    with pytest.raises(
        InvalidRequest, match="which of the models a, b the adapters belong to is not known; give `lora`"
    ):
        settings.served()
    file = tmp_path / "models.yaml"
    file.write_text(f"a: {{path: {model}, lora: {{formal: {adapter}}}}}\nb: {model}\n")
    assert read_settings(models=str(file)).served()["a"].lora == {"formal": adapter}
    with pytest.raises(InvalidRequest, match=f"there is no folder {tmp_path}/nowhere"):
        read_settings(lora=[f"formal={tmp_path}/nowhere"])


def test_a_parser_of_tool_calls_is_for_the_only_model_or_is_listed_in_the_file_of_models(
    model: Path, tmp_path: Path
) -> None:
    served = read_settings(models=[f"a={model}"], tool_call_parser="hermes", atlas=True).served()
    assert (served["a"].tool_call_parser, served["atlas"].tool_call_parser) == ("hermes", None)
    with pytest.raises(InvalidRequest, match="the parser is for is not known; give `tool_call_parser`") as caught:
        read_settings(models=[f"a={model}", f"b={model}"], tool_call_parser="hermes").served()
    assert caught.value.param == "tool_call_parser"
    file = tmp_path / "models.yaml"
    file.write_text(f"a: {{path: {model}, tool_call_parser: hermes}}\nb: {model}\n")
    parsers = [each.tool_call_parser for each in read_settings(models=str(file), atlas=False).served().values()]
    assert parsers == ["hermes", None]
