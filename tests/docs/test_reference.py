"""The reference pages list every command, every setting, every method of the clients and every route."""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer

import api.routes
from ampsweep.cli.app import app
from ampsweep.cli.server.settings import Settings
from ampsweep.client.clients import Client
from tests.docs.pages import DOCS, ROOT


def _text(*names: str) -> str:
    return "\n".join((DOCS / name).read_text(encoding="utf-8") for name in names)


def _commands(group: Any) -> Iterator[str]:
    """Yield the commands of a group, and of the groups in it, as one types them."""
    for name, command in group.commands.items():
        yield name
        if hasattr(command, "commands"):
            yield from (f"{name} {further}" for further in _commands(command))


def test_every_command_is_in_the_table() -> None:
    names = list(_commands(typer.main.get_command(app)))
    assert "neurons import" in names
    rows = [row.split("|")[1] for row in _text("cli.md").splitlines() if row.startswith("| `")]
    listed = {code.split(" [")[0] for row in rows for code in re.findall(r"`([a-z][^`]*)`", row)}
    assert [name for name in names if not any(f"{code} ".startswith(f"{name} ") for code in listed)] == []


def test_every_setting_is_listed() -> None:
    text = _text("cli.md", "security.md")
    missing = [name for name in Settings.model_fields if f"`AMPSWEEP_{name.upper()}`" not in text]
    assert missing == []


def test_every_other_variable_is_on_some_page() -> None:
    environment = json.loads((ROOT / "tests" / "golden" / "environment.json").read_text(encoding="utf-8"))
    text = _text(*(page.name for page in DOCS.glob("*.md")))
    assert "AMPSWEEP_API_KEY" in environment["others"]
    assert [name for name in environment["others"] if not re.search(rf"{name}\b", text)] == []


def test_every_method_of_the_clients_is_named() -> None:
    text = _text("client.md")
    methods = [name for name in vars(Client) if not name.startswith("_")]
    assert "stream_chat" in methods
    assert [name for name in methods if name != "close" and not re.search(rf"\b{name}\b", text)] == []


@pytest.mark.parametrize("module", [match.name for match in pkgutil.iter_modules(api.routes.__path__)])
def test_every_route_is_named(module: str) -> None:
    text = _text("rest.md")
    for route in importlib.import_module(f"api.routes.{module}").router.routes:
        path = re.sub(
            r"\{(\w+?)(?:_id)?(?::path)?\}", lambda match: "{model}" if match[1] == "model" else "{id}", route.path
        )
        for method in route.methods if route.include_in_schema else ():
            assert f"`{method} {path}`" in text or f"`{method} {path}?" in text, f"{method} {route.path}"
