"""The languages of a file of neurons, from the file that lang-task-neuron writes beside it (`ld_...`, `lang_dict`)."""

from __future__ import annotations

from pathlib import Path

from ampsweep.domain.languages import one_language_twice, short_code
from ampsweep.errors import InvalidRequest
from engine.neurons.tensor_file import read_tensors


def read_language_order(path: Path) -> tuple[str, ...]:
    """Return the languages of `{0: code, 1: code, ...}` in order, each by the code that `short_code` returns.

    Raises InvalidRequest where the file holds anything else, and where two of its codes mean one language.
    """
    content = read_tensors(path)
    if not isinstance(content, dict) or sorted(map(str, content)) != sorted(map(str, range(len(content)))):
        raise InvalidRequest(
            f"{path.name} must hold {{0: code, 1: code, ...}}, as lang-task-neuron writes it", param="languages_from"
        )
    codes = [content[position] for position in range(len(content))]
    if not codes or not all(isinstance(code, str) and code for code in codes):
        raise InvalidRequest(f"{path.name}: each language must be a code; got {codes}", param="languages_from")
    if twice := one_language_twice(codes):
        raise InvalidRequest(f"{path.name}: {twice}", param="languages_from")
    return tuple(short_code(code) for code in codes)
