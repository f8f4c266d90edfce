from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from ampsweep.errors import InvalidRequest
from ampsweep.folders.model import ModelFolder
from engine.neurons.formats.lape_lists import from_lape_lists, read_language_order
from engine.neurons.formats.neuron_json import from_json

MODEL = ModelFolder(name="made-up", fingerprint="f" * 64, layers=2, width=8)
EXPECTED = {"fr": {0: [1, 3]}, "en": {1: [7]}}
MASK = torch.zeros(2, 2, 8, dtype=torch.bool)
MASK[0, 0, 1] = MASK[0, 0, 3] = MASK[1, 1, 7] = True


def _saved(path: Path, value: Any) -> Path:
    torch.save(value, path / "lape.pt")
    return path / "lape.pt"


@pytest.mark.parametrize(
    "lists",
    [
        # RUCAIBox and Language-Neurons-Manipulation: int64, sorted, also where a layer has none.
        [[torch.tensor([1, 3]), torch.tensor([]).long()], [torch.tensor([]).long(), torch.tensor([7])]],
        # lang-task-neuron, by average precision and by overlap: empty layers are float32, indices are unordered.
        [[torch.tensor([3, 1]), torch.tensor([])], [torch.tensor([]), torch.tensor([7])]],
        # lang-task-neuron, by activation: flat indices minus a float offset, so all are float32.
        [[torch.tensor([1, 3]) - 0.0, torch.tensor([]).long() - 8.0], [torch.tensor([]), torch.tensor([15]) - 8.0]],
        ((torch.tensor([1, 3]), torch.tensor([])), (torch.tensor([]), torch.tensor([7]))),
        [[torch.tensor([[1], [3]]), torch.tensor([])], [torch.tensor([]), torch.tensor([[7]])]],
        [[torch.tensor([1, 3]).int(), torch.tensor([])], [torch.tensor([]), torch.tensor([7]).to(torch.int16)]],
        [[torch.tensor([1, 3]).half(), torch.tensor([])], [torch.tensor([]), torch.tensor([7]).bfloat16()]],
        [[[1, 3], []], [[], [7]]],
        MASK,
        [MASK[0], MASK[1]],
        [[MASK[0, 0], MASK[0, 1]], [MASK[1, 0], MASK[1, 1]]],
    ],
    ids=[
        *("lape", "average-precision", "activated", "tuples", "columns", "short-integers", "halves", "plain"),
        *("mask", "masks", "masks-by-layer"),
    ],
)
def test_the_lists_of_published_code_are_read(tmp_path: Path, lists: Any) -> None:
    neurons = from_lape_lists(_saved(tmp_path, lists), languages=["fr", "en"], model=MODEL)
    assert neurons.id == from_json(EXPECTED, model=MODEL).id


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ([[torch.tensor([1]), torch.tensor([2])]], r"has 1 languages, but 2 are named \(fr, en\)"),
        ([[torch.tensor([1])], [torch.tensor([1])]], "has 1 layers, but made-up has 2; give the model"),
        ([[torch.tensor([8]), torch.tensor([1])]] * 2, "from 0 to 7; got 8"),
        ([[torch.tensor([1, 1]), torch.tensor([1])]] * 2, "neuron 1 is listed twice"),
        ([[torch.tensor([1.5]), torch.tensor([1])]] * 2, "whole numbers"),
        ([[torch.tensor([float("nan")]), torch.tensor([1])]] * 2, "whole numbers"),
        ([[torch.tensor([True]), torch.tensor([1])]] * 2, "is a mask over 1 neurons; the layer has 8"),
        ([[torch.tensor([0, 1, 0, 0, 0, 0, 0, 1]), torch.tensor([1])]] * 2, "a mask of 0 and 1; save it as torch.bool"),
        ([[torch.tensor([[1, 2]]), torch.tensor([1])]] * 2, "one dimension; its shape is 1 x 2"),
        ([[torch.tensor([-1, 3]), torch.tensor([1])]] * 2, "from 0 to 7; got -1"),
        ([[[0, 3], [0, 5]]] * 2, r"ambiguous: it may list \[layer, index\] pairs or two neurons"),
        (torch.zeros(2, 2, 8, dtype=torch.long), "must be a list over languages"),
        ([], "must be a list over languages"),
        ({"n": 9, "over_zero": torch.zeros(2, 8)}, "counts activations; give the file that the project's LAPE"),
        ([{"lang": "fra_Latn", "num": 9, "over_zero": torch.zeros(2, 8)}], "counts activations"),
        (torch.zeros(2, 5, 16), r"one tensor of values \(2 x 5 x 16\); give the lists"),
        ({0: "fra_Latn", 1: "eng_Latn"}, "names languages; give it as --languages-from"),
    ],
)
def test_other_files_are_rejected_with_the_reason(tmp_path: Path, lists: Any, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        from_lape_lists(_saved(tmp_path, lists), languages=["fr", "en"], model=MODEL)


def test_a_language_named_twice_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="named once; got fr, fr") as caught:
        from_lape_lists(_saved(tmp_path, [[torch.tensor([1])] * 2] * 2), languages=["fr", "fr"], model=MODEL)
    assert caught.value.param == "languages"


@pytest.mark.parametrize(
    "by_language",
    [
        {"fr": [torch.tensor([1, 3]), torch.tensor([])], "en": [torch.tensor([]), torch.tensor([7])]},
        {"fr": {0: [1, 3]}, "en": {1: torch.tensor([7])}},
        {"fr": MASK[0], "en": MASK[1]},
    ],
    ids=["lists", "dicts", "masks"],
)
def test_a_dict_by_language_needs_no_language_codes(tmp_path: Path, by_language: Any) -> None:
    path = _saved(tmp_path, by_language)
    assert from_lape_lists(path, languages=None, model=MODEL).id == from_json(EXPECTED, model=MODEL).id
    with pytest.raises(InvalidRequest, match="names its languages itself; leave them out"):
        from_lape_lists(path, languages=["fr", "en"], model=MODEL)


@pytest.mark.parametrize(("dtype", "exact"), [(torch.bfloat16, 256), (torch.float16, 2048)])
def test_indices_that_their_dtype_may_have_rounded_are_rejected(tmp_path: Path, dtype: torch.dtype, exact: int) -> None:
    """bfloat16 rounds 257 to 256, so the neuron can no longer be known."""
    wide = ModelFolder(name="wide", fingerprint="f" * 64, layers=1, width=4096)
    unchanged = _saved(tmp_path, [[torch.tensor([3, exact - 1]).to(dtype)]])
    assert from_lape_lists(unchanged, languages=["fr"], model=wide).neurons["fr"].tolist() == [[0, 3], [0, exact - 1]]
    rounded = _saved(tmp_path, [[torch.tensor([3, exact + 1]).to(dtype)]])
    with pytest.raises(InvalidRequest, match=f"{dtype} rounds whole numbers from {exact} on") as caught:
        from_lape_lists(rounded, languages=["fr"], model=wide)
    assert caught.value.param == "neurons.fr.0"


def test_an_invalid_language_code_is_rejected_where_it_was_given(tmp_path: Path) -> None:
    path = _saved(tmp_path, [[torch.tensor([1])] * MODEL.layers])
    with pytest.raises(InvalidRequest, match=r"a language must be a code of letters.* got 'fr/x'") as caught:
        from_lape_lists(path, languages=["fr/x"], model=MODEL)
    assert caught.value.param == "languages"


def test_the_language_order_follows_the_numbers(tmp_path: Path) -> None:
    torch.save({1: "eng_Latn", 0: "fra_Latn", 2: "deu_Latn", 3: "zho_Hant"}, tmp_path / "ld_flores200")
    assert read_language_order(tmp_path / "ld_flores200") == ("fr", "en", "de", "zho_Hant")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (["eng_Latn"], "must hold {0: code"),
        ({1: "eng_Latn"}, "must hold {0: code"),
        ({}, "ld names no language"),
        ({0: "fr", 1: "en "}, "ld: a language must be a code of .* got 'en '"),
        ({0: "cmn_Hans", 1: "zh"}, "ld: cmn_Hans and zh are one language"),
        ({0: 3}, "ld: a language must be a code, such as fr; got the number 3"),
    ],
)
def test_a_language_order_with_other_content_is_rejected(tmp_path: Path, content: Any, message: str) -> None:
    torch.save(content, tmp_path / "ld")
    with pytest.raises(InvalidRequest, match=message) as caught:
        read_language_order(tmp_path / "ld")
    assert caught.value.param == "languages_from"
