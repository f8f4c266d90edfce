"""The page on errors lists every code, with status, exit code and class where it has them; its example runs."""

from __future__ import annotations

import re

from ampsweep.cli.terminal.failures import exit_code
from ampsweep.errors import AmpsweepError
from tests.docs.pages import DOCS, ROOT, blocks, prose

PAGE = DOCS / "errors.md"
PACKAGES = ("ampsweep", "api", "jobs", "worker", "engine")


def test_every_error_is_on_the_page() -> None:
    pending, kinds = [AmpsweepError], {AmpsweepError}
    while pending:
        subclasses = [kind for kind in pending.pop().__subclasses__() if kind.__module__ == "ampsweep.errors"]
        pending += subclasses
        kinds.update(subclasses)
    listed = re.findall(r"^\| `(\w+)` \| (\d+) \| (\d) \| `(\w+)` \|", prose(PAGE), re.MULTILINE)
    expected = [(kind.code, str(kind.status), str(exit_code(kind.__new__(kind))), kind.__name__) for kind in kinds]
    assert sorted(listed) == sorted(expected)


def test_every_code_in_the_source_is_on_the_page() -> None:
    files = [file for package in PACKAGES for file in (ROOT / package).rglob("*.py")]
    in_source = {
        code
        for file in files
        for code in re.findall(r"""(?:"code": |^    \d{3}: |\bcode = )"([a-z_]+)\"""", file.read_text(), re.MULTILINE)
    }
    assert {"batch_expired", "body_too_large", "not_found"} <= in_source
    assert in_source - set(re.findall(r"`([a-z_]+)`", PAGE.read_text(encoding="utf-8"))) == set()


def test_the_example_runs() -> None:
    (block,) = blocks(PAGE, "python")
    exec(compile(block.text, str(PAGE), "exec"), {})
