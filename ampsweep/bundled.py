"""Paths of the bundled model, `atlas`: its weights, the corpus that its neurons are identified on, its facts."""

from __future__ import annotations

from pathlib import Path

ATLAS = "atlas"
ATLAS_FOLDER = Path(__file__).parent / "atlas"
ATLAS_MODEL = ATLAS_FOLDER / "model"
ATLAS_CORPUS = ATLAS_FOLDER / "corpus"
