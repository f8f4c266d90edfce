"""The page on errors lists every error with its status and class; its example runs."""

from __future__ import annotations

import re

from ampsweep.errors import AmpsweepError
from tests.docs.pages import DOCS, blocks, prose

PAGE = DOCS / "errors.md"


def test_every_error_is_on_the_page() -> None:
    pending, kinds = [AmpsweepError], {AmpsweepError}
    while pending:
        subclasses = [kind for kind in pending.pop().__subclasses__() if kind.__module__ == "ampsweep.errors"]
        pending += subclasses
        kinds.update(subclasses)
    listed = re.findall(r"^\| `(\w+)` \| (\d+) \| `(\w+)` \|", prose(PAGE), re.MULTILINE)
    assert sorted(listed) == sorted((kind.code, str(kind.status), kind.__name__) for kind in kinds)


def test_the_example_runs() -> None:
    (block,) = blocks(PAGE, "python")
    exec(compile(block.text, str(PAGE), "exec"), {})
