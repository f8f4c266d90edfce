"""Links between the pages and into the project lead to existing files and headings."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlparse

import pytest
import yaml

from tests.docs.pages import DOCS, ROOT, anchors, links, prose

PAGES = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "CODE_OF_CONDUCT.md")),
    *sorted(DOCS.glob("**/*.md")),
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    broken = []
    for link in links(page):
        target = urlparse(link)
        if target.scheme:
            assert target.scheme == "https", f"{page.name}: {link}"
            continue
        file = (page.parent / target.path).resolve() if target.path else page
        inside = file.is_relative_to(ROOT if page.parent == ROOT else DOCS)
        if not (inside and file.exists() and (not target.fragment or target.fragment in anchors(file))):
            broken.append(link)
    assert broken == []


def test_every_page_is_on_the_site_and_in_the_index() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    nav = yaml.safe_load(text[text.index("\nnav:") :])["nav"]
    listed = {page for entry in nav for value in entry.values() for page in _pages(value)}
    pages = {str(path.relative_to(DOCS)) for path in DOCS.glob("**/*.md")}
    assert listed == pages
    index = [link.partition("#")[0] for link in links(DOCS / "README.md")]
    assert set(index) >= {page for page in pages if "/" not in page} - {"README.md"}
    decisions = links(DOCS / "adr" / "README.md")
    assert {f"adr/{page}" for page in decisions} == {page for page in pages if page.startswith("adr/0")}
    assert len(index) == len(set(index)), "a page is listed twice"


def test_pages_name_no_path_of_a_machine() -> None:
    for page in PAGES:
        assert not [word for word in ("/home/", "/root/") if word in prose(page)], page.name


def _pages(value: str | list[dict[str, str]]) -> list[str]:
    return [value] if isinstance(value, str) else [page for entry in value for page in entry.values()]
