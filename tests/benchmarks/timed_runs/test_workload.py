from __future__ import annotations

from collections import Counter

from benchmarks.timed_runs.workload import Texts


def test_texts_are_always_new_and_have_the_same_total_length() -> None:
    supply = Texts()
    first, second = (supply.texts(41, 20, 60) for _ in range(2))
    assert Counter(map(len, first)) == Counter(map(len, second)) == Counter(range(20, 61))
    assert not set(first) & set(second)
    assert [len(text) for text in first] != [len(text) for text in second]
    assert {len(text) for text in supply.texts(8, 5)} == {5}


def test_options_of_a_context_share_one_intervention() -> None:
    items = Texts().scored(16, context=(40, 100), option=(20, 60), options=4, distinct=2)
    groups = [items[start : start + 4] for start in range(0, 16, 4)]
    assert [{item.intervention for item in group} for group in groups] == [{0}, {1}, {0}, {1}]
    assert all(len({item.context for item in group}) == 1 for group in groups)
    assert len({item.context for item in items}) == 4
    assert sum(len(item.option) for item in items) == 16 * 40


def test_answers_have_different_lengths_with_the_same_total() -> None:
    supply = Texts()
    first, second = (supply.answers(64, mean=4) for _ in range(2))
    assert first != second
    assert sorted(first) == sorted(second)
    assert (min(first), max(first)) == (1, 17)
    assert abs(sum(first) / 64 - 4) < 0.1
