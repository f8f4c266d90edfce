"""The exceptions: each has its own code, and survives pickling and JSON."""

from __future__ import annotations

import pickle

import pytest

from ampsweep import errors
from ampsweep.errors import MAX_CHARS, AmpsweepError, UnknownName, from_code, quoted, shortened

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, AmpsweepError)]


def test_every_class_has_a_code_of_its_own() -> None:
    codes = [kind.code for kind in KINDS]
    assert "internal_error" in codes
    assert len(set(codes)) == len(codes)


def test_an_unknown_name_says_how_it_becomes_known_before_what_was_meant() -> None:
    error = UnknownName("corpus", "atla", ["atlas"], remedy="name your own with --corpus")
    assert error.message == "unknown corpus 'atla'; known: atlas; name your own with --corpus. Did you mean 'atlas'?"


@pytest.mark.parametrize("kind", KINDS)
def test_a_pickled_error_comes_back_as_itself(kind: type[AmpsweepError]) -> None:
    error = from_code(kind.code, "too much of it", param="factor")
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), copy.message, copy.param, str(copy)) == (kind, "too much of it", "factor", "too much of it")


def test_an_addition_to_a_message_is_in_the_text_of_the_error() -> None:
    error = UnknownName("model", "atlas", [])
    error.message += "; name its folder"
    assert str(error) == str(pickle.loads(pickle.dumps(error))) == "unknown model 'atlas'; known: none; name its folder"


@pytest.mark.parametrize("kind", KINDS)
def test_a_code_names_its_class(kind: type[AmpsweepError]) -> None:
    assert type(from_code(kind.code, "message")) is kind


def test_a_code_of_a_newer_server_is_still_an_error() -> None:
    assert type(from_code("from_the_future", "message")) is AmpsweepError


def test_an_unknown_name_lists_the_known_ones() -> None:
    error = UnknownName("model", "atals", ["zeta", "atlas"], param="model")
    assert error.message == "unknown model 'atals'; known: atlas, zeta. Did you mean 'atlas'?"
    assert error.status == 422
    assert pickle.loads(pickle.dumps(error)).message == error.message


def test_the_only_name_that_begins_with_an_unknown_one_was_meant() -> None:
    columns = ["part", "target_language", "task", "task_options"]
    assert UnknownName("column", "target", columns).message.endswith("Did you mean 'target_language'?")
    assert UnknownName("column", "tas", columns).message.endswith("Did you mean 'task'?"), "the nearest of several"
    assert "Did you mean" not in UnknownName("column", "", ["task"]).message


def test_an_unknown_name_of_any_length_is_named_in_short() -> None:
    error = UnknownName("model", "m" * 1_000_000, ["atlas"])
    assert error.message.startswith("unknown model 'mmm")
    assert error.message.endswith("mmm'; known: atlas")
    assert len(error.message) < 300


def test_a_long_text_keeps_its_beginning_and_its_end() -> None:
    assert shortened("a" * MAX_CHARS) == "a" * MAX_CHARS
    assert shortened(f"{'a' * MAX_CHARS}; omit it").endswith("a; omit it")
    assert len(shortened("a" * 1_000_000)) < MAX_CHARS + 10
    assert (shortened("abcdef", 4), quoted("it's"), quoted([1.5, None])) == ("ab ... ef", '"it\'s"', "[1.5, None]")


def test_the_openai_type_tells_client_errors_from_server_errors() -> None:
    ours = {kind.__name__ for kind in KINDS if from_code(kind.code, "message").type == "server_error"}
    engines = {"SteeringNotInstalled", "EngineFailed", "EngineLost", "DamagedFile"}
    assert ours == {"AmpsweepError", *engines, "Unavailable", "DataUnavailable", "NoConnection", "ConnectionLost"}
