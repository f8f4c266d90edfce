"""The document that all writers are tested with."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from jobs.report.document import Document
from tests.jobs.report.writers.documents import small_document


@pytest.fixture(scope="session")
def document(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Document]:
    with small_document(tmp_path_factory.mktemp("sweep")) as document:
        yield document
