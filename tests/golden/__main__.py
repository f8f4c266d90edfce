"""`python -m tests.golden [NAME ...]` writes all golden files, or the named ones, again."""

from __future__ import annotations

import sys

from tests.golden.contracts import CONTRACTS, as_text, golden_file

for name in sys.argv[1:] or CONTRACTS:
    golden_file(name).write_text(as_text(CONTRACTS[name]()), encoding="utf-8")
