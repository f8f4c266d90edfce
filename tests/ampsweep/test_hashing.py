"""Canonical JSON and hashes: equal values, equal text."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ampsweep.hashing import canonical_json, content_hash, file_hash, files_hash

TEXTS = st.text('aB1 "\\\n\x00é北\u2028\ufffd😀', max_size=3)  # not all of Unicode, whose table takes seconds to build
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(TEXTS, VALUES, max_size=5))
def test_the_order_of_keys_does_not_matter(value: dict[str, object]) -> None:
    assert canonical_json(dict(reversed(value.items()))) == canonical_json(value)


def test_the_text_is_compact_and_keeps_letters() -> None:
    assert canonical_json({"b": [1, 2.5, None], "a": "だ"}) == '{"a":"だ","b":[1,2.5,null]}'


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [float("-inf")]])
def test_nan_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical_json(value)


def test_a_hash_is_stable_across_versions() -> None:
    assert content_hash({"factor": 2.0, "op": "scale"}) == "f89417a8a71170ec3a8998a76e209378"
    assert len(content_hash({}, length=12)) == 12


def test_a_hash_of_files_sees_names_and_bytes_but_not_their_order(tmp_path: Path) -> None:
    first, second = tmp_path / "a.txt", tmp_path / "b.txt"
    first.write_text("one")
    second.write_text("two")
    before = files_hash([first, second])
    assert files_hash([second, first]) == before
    assert files_hash([first]) != before
    second.write_text("three")
    assert files_hash([first, second]) != before
    second.write_text("two")
    assert files_hash([first, second.rename(tmp_path / "c.txt")]) != before


def test_a_file_hash_is_sha256(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert file_hash(tmp_path / "empty") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
