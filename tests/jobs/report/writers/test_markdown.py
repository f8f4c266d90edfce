"""The report as Markdown, read by a CommonMark parser."""

from __future__ import annotations

import itertools

from markdown_it import MarkdownIt

from jobs.report.document import Document
from jobs.report.writers.markdown import escape_markdown, to_markdown
from tests.jobs.report.writers.documents import TITLE


def test_a_parser_reads_headings_figure_and_tables(document: Document) -> None:
    text = to_markdown(document, figures="my figures")
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    inline = [token for token in tokens if token.type == "inline"]
    headings = [
        "".join(child.content for child in content.children or ())
        for opening, content in itertools.pairwise(tokens)
        if opening.type == "heading_open"
    ]
    assert headings[0] == TITLE
    assert headings[1:3] == ["What was found", "Contents"]
    assert headings[-1] == "Methods"
    images = [child.attrGet("src") for token in inline for child in token.children or () if child.type == "image"]
    assert images == ["my%20figures/self_cross.svg"]
    heads = [token for token in tokens if token.type == "thead_open"]
    assert len(heads) == 4, "of two sections, the sources and the files"
    elements = [child.content for token in inline for child in token.children or () if child.type == "html_inline"]
    assert elements == ['<a id="significance">', "</a>", '<a id="self_cross">', "</a>"], "none of the title"
    for answer in document.answers:
        assert f'<a id="{answer.question.key}"></a>' in text
        assert answer.question.sql.strip() in text
        assert escape_markdown(answer.observation) in text


def test_a_text_is_read_as_it_was() -> None:
    text = r"a*b*_c_ `d` [e](f) <g> | # ~h~ & $i$ \j"
    (paragraph,) = [token for token in MarkdownIt().parse(escape_markdown(text)) if token.type == "inline"]
    assert "".join(child.content for child in paragraph.children or ()) == text
