"""Command lines on the pages: each one parses, each option is described somewhere, and JSON objects are listed."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from ampsweep.cli.app import app
from tests.docs.pages import DOCS, ROOT, blocks

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
OPTIONS = json.loads((ROOT / "tests" / "golden" / "commands.json").read_text(encoding="utf-8"))
GROUP: Any = typer.main.get_command(app)


def commands(page: Path) -> Iterator[list[str]]:
    """Yield the words of each simple command in the shell blocks of a page, without variables that it sets."""
    for block in blocks(page, "sh", ""):
        text = re.sub(r"<<'?(\w+)'?.*?\n\1$", "", block.text, flags=re.DOTALL | re.MULTILINE)
        text = re.sub(r"(?:^|(?<=\s))#.*$", "", text.replace("\\\n", " "), flags=re.MULTILINE)
        lexer = shlex.shlex(text, posix=True, punctuation_chars="();<>|&\n")
        lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t", True, ""
        words: list[str] = []
        for word in [*lexer, "\n"]:
            if set(word) <= set("();<>|&\n"):
                if words:
                    yield words
                words = []
            elif words or not re.match(r"\w+=", word):
                words.append(word)


def parse(words: list[str]) -> str:
    """Parse the arguments of `ampsweep` as the program does, without running it; return the name of the command."""
    command, context, name = GROUP, GROUP.make_context("ampsweep", list(words)), ""
    while hasattr(command, "resolve_command"):
        name, command, words = command.resolve_command(context, words)
        context = command.make_context(name, list(words), parent=context)
    return name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_line_parses(page: Path) -> None:
    for words in commands(page):
        if words[0] == "ampsweep" and len(words) > 1:
            parse(words[1:])


def test_command_lines_are_found() -> None:
    found = [words for words in commands(DOCS / "tutorial.md") if words[0] == "ampsweep"]
    assert ["ampsweep", "run", "first.yaml", "--out", "first"] in found
    assert len(found) >= 8


@pytest.mark.parametrize("words", [["identify", "models/qwen", "--corpus", "flores"], ["run", "--nowhere"]])
def test_a_wrong_command_line_would_be_noticed(words: list[str]) -> None:
    with pytest.raises(Exception, match=r"unexpected|[Nn]o such option|Missing"):
        parse(words)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_modules_and_targets_that_commands_name_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for words in commands(page):
        if words[:2] == ["python", "-m"] and words[2].split(".")[0] in ("benchmarks", "examples", "tests", "api"):
            module = ROOT / words[2].replace(".", "/")
            assert module.is_dir() or module.with_suffix(".py").is_file(), words
        if words[0] == "make":
            assert [word for word in words[1:] if "=" not in word and word not in targets] == [], words


def test_every_option_is_on_some_page() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    names = {name.split(" ")[0] for options in OPTIONS.values() for name in options if name.startswith("--")}
    assert {name for name in names if not re.search(rf"{name}\b(?!-)", text)} == set()


def test_every_command_with_json_has_its_object_in_the_table() -> None:
    table = (DOCS / "cli.md").read_text(encoding="utf-8").partition("| command | object |")[2].partition("```")[0]
    listed = {name for row in table.splitlines() for name in re.findall(r"`([^`]+)`", row[1:].partition("|")[0])}
    with_json = {name.removeprefix("ampsweep ") for name, options in OPTIONS.items() if "--json" in options}
    assert with_json - listed == set()
