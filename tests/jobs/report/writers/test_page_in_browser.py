"""The page in a browser: tables that sort, a phone's width, and what is printed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.report.document import Document
from jobs.report.writers.html import to_html
from tests.api.browser import Browser, browser

pytestmark = pytest.mark.processes

COLUMN = "document.querySelectorAll('#significance th')[9]"
"""The head of the median effect; two of its cells are those of the same metric."""
CELLS = "[...document.querySelectorAll('#significance tbody tr')].map((row) => row.cells[9].dataset.value)"


@pytest.fixture(scope="module")
def tab(document: Document, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    page: Path = tmp_path_factory.mktemp("page") / "report.html"
    page.write_text(to_html(document), encoding="utf-8")
    with browser() as tab:
        tab.open(page.as_uri())
        yield tab
        assert tab.errors == []


def test_a_click_on_a_head_sorts_by_its_numbers_and_a_second_one_the_other_way_round(tab: Browser) -> None:
    assert tab.run(f"{COLUMN}.textContent") == "median effect"
    values = tab.run(CELLS)
    for order in ("ascending", "descending"):
        tab.run(f"{COLUMN}.querySelector('button').click()")
        assert tab.run(CELLS) == sorted(values, key=float, reverse=order == "descending")
        assert tab.run(f"{COLUMN}.getAttribute('aria-sort')") == order


def test_on_a_phone_the_page_does_not_scroll_sideways_but_figures_do(tab: Browser) -> None:
    tab._call("Emulation.setDeviceMetricsOverride", width=390, height=844, deviceScaleFactor=1, mobile=True)
    assert tab.run("document.documentElement.scrollWidth") == 390
    assert tab.run("document.querySelector('figure .wide').scrollWidth") > 390
    tab._call("Emulation.clearDeviceMetricsOverride")


def test_the_tables_of_figures_are_printed_and_links_to_files_are_not(tab: Browser) -> None:
    seen = "document.querySelector('{}').checkVisibility({{contentVisibilityAuto: true}})"
    table, files = seen.format("#self_cross details table"), seen.format("#self_cross .files")
    assert (tab.run(table), tab.run(files)) == (False, True)
    tab._call("Emulation.setEmulatedMedia", media="print")
    tab.until(table)  # from the next frame on
    assert not tab.run(files)
    tab._call("Emulation.setEmulatedMedia", media="")
