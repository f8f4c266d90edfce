"""The page: its summary, contents and captions, and that it needs neither network nor script."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from markupsafe import escape

from jobs.report.document import Document
from jobs.report.writers.html import to_html

VOID = {"meta", "path", "use", "br", "link"}


class Elements(HTMLParser):
    """Collects the ids, the links and the attributes of cells, and checks that elements are closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.values: list[str] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "section":
            self.ids.append(named["id"] or "")
        if tag == "a":
            self.links.append(named["href"] or "")
        if "data-value" in named:
            self.values.append(named["data-value"] or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


def test_the_page_begins_with_what_is_missing_the_summary_and_the_contents(document: Document) -> None:
    page = to_html(document)
    elements = Elements(page)
    assert elements.open == []
    assert elements.ids == ["summary", "significance", "self_cross", "methods"]
    assert [link for link in elements.links if link.startswith("#")] == ["#significance", "#self_cross", "#methods"]
    positions = [page.index(text) for text in ("<strong>1 cells failed", "What was found", "Contents", "<figure>")]
    assert positions == sorted(positions)
    for sentence in document.findings:
        assert f'<p class="finding">{escape(sentence)}</p>' in page


def test_every_figure_and_table_has_a_caption_and_its_number_of_items(document: Document) -> None:
    page = to_html(document)
    by_key = {answer.question.key: answer for answer in document.answers}
    assert f"<strong>Table 1.</strong> {by_key['significance'].observation}" in page
    assert f"<strong>Figure 2.</strong> {by_key['self_cross'].observation}" in page
    assert "n = 100" in by_key["self_cross"].observation


def test_numbers_carry_the_value_that_they_are_sorted_by(document: Document) -> None:
    values = Elements(to_html(document)).values
    assert values
    assert all(re.fullmatch(r"-?[\d.]+(e-?\d+)?", value) for value in values)


def test_the_page_fetches_nothing_and_escapes_its_texts(document: Document) -> None:
    page = to_html(document)
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)""", page)
    assert "@import" not in page
    assert not re.search(r"url\((?!#)", page)
    assert "<h1>&lt;b&gt;50 % &amp; $x_1$" in page
    assert page.count("<script") == 1
