"""What the neural metrics of translations share: the check for their packages, and the identity of a model's file."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from ampsweep.errors import InvalidRequest
from ampsweep.hashing import cached_hash
from jobs.evaluation.metric import Scores, TextScore, Values, mean_with_interval, note_on
from jobs.evaluation.texts import StoredText


def require_package(module: str, *, metric: str, command: str) -> None:
    """Raise InvalidRequest, with the command that installs it, if the package of a metric is missing."""
    if find_spec(module) is None:
        raise InvalidRequest(f"metric {metric} needs a package that is not installed; run: {command}", param="metric")


def short_hash(path: Path) -> str:
    """Return the first 12 digits of a file's SHA-256 hash, as identities name it."""
    return f"sha256:{cached_hash(path)[:12]}"


def scores_of(name: str, values: list[float]) -> Scores:
    """Return the values of all texts as the scores of a metric."""
    return {name: [TextScore(float(value)) for value in values]}


def mean_by_model(
    name: str, texts: Sequence[StoredText], scores: Scores, identity: str, rng: np.random.Generator
) -> Values:
    """Return the mean of a metric with its interval, and the identity of its model under `<name>_model`."""
    column = scores[name]
    return {**mean_with_interval(name, texts, column, rng), f"{name}_model": identity, "note": note_on(texts, column)}
