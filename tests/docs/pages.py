"""Reads the pages of the documentation: fenced blocks, headings and links."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
_FENCE = re.compile(
    r"^(?:<!-- not run: (?P<why>[^\n]+) -->\n)?"
    r"```(?P<language>\w*)(?: title=\"(?P<title>[^\"\n]+)\")?[^\n]*\n(?P<text>.*?)^```$",
    re.M | re.S,
)
_HEADING = re.compile(r"^#+ +(.+?)\s*$", re.M)
_LINK = re.compile(r"\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^()\s]+)\)")


@dataclass(frozen=True, kw_only=True)
class Block:
    """A fenced block; `title` names the file that it shows, `not_run` why the tests leave it out."""

    language: str
    text: str
    title: str | None = None
    not_run: str | None = None


def blocks(page: Path, *languages: str) -> list[Block]:
    """Return a page's blocks in the given languages, in order."""
    matches = _FENCE.finditer(page.read_text(encoding="utf-8"))
    every = [
        Block(language=match["language"], text=match["text"], title=match["title"], not_run=match["why"])
        for match in matches
    ]
    return [block for block in every if block.language in languages]


def prose(page: Path) -> str:
    """Return a page without its fenced blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def links(page: Path) -> list[str]:
    """Return the targets of a page's links and images."""
    return _LINK.findall(prose(page))


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives a page's headings."""
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in _HEADING.findall(prose(page))}
