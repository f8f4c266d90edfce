from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from ampsweep.errors import InvalidRequest
from engine.neurons.language_order import read_language_order


def test_languages_come_in_the_order_of_their_numbers_by_short_code(tmp_path: Path) -> None:
    torch.save({1: "eng_Latn", 0: "fra_Latn", 2: "deu_Latn", 3: "zho_Hant"}, tmp_path / "ld_flores200")
    assert read_language_order(tmp_path / "ld_flores200") == ("fr", "en", "de", "zho_Hant")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (["eng_Latn"], "must hold {0: code"),
        ({1: "eng_Latn"}, "must hold {0: code"),
        ({}, "must be a code"),
        ({0: "cmn_Hans", 1: "zh"}, "ld: cmn_Hans and zh are one language"),
        ({0: 3}, r"must be a code; got \[3\]"),
    ],
)
def test_other_content_is_refused(tmp_path: Path, content: Any, message: str) -> None:
    torch.save(content, tmp_path / "ld")
    with pytest.raises(InvalidRequest, match=message) as caught:
        read_language_order(tmp_path / "ld")
    assert caught.value.param == "languages_from"
