"""Where the files of the bundled model lie, the atlas: its weights, the corpus its neurons are found on, its facts."""

from __future__ import annotations

from pathlib import Path

ATLAS = "atlas"
ATLAS_FOLDER = Path(__file__).parent / "atlas"
ATLAS_MODEL = ATLAS_FOLDER / "model"
ATLAS_CORPUS = ATLAS_FOLDER / "corpus"
