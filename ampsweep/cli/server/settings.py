"""Settings of a server: options of `ampsweep serve`, else environment variables (AMPSWEEP_...), else secret files.

An invalid value is an error that names its option or variable.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from ampsweep.bundled import ATLAS, ATLAS_CORPUS, ATLAS_MODEL
from ampsweep.documents import read_spec
from ampsweep.domain.choices import Dtype, EngineKind
from ampsweep.errors import InvalidRequest, quoted
from ampsweep.folders.hub_model import HUB_NAMES, fetch_model, is_hub_name
from ampsweep.missing_path import is_path, no_file, no_folder
from ampsweep.telemetry.logs import LogFormat, LogLevel

PREFIX = "AMPSWEEP_"
SECRETS = Path("/run/secrets")
"""The folder of a container's secrets: the file `ampsweep_database_url` in it holds that setting, for example."""
_OTHER_VARIABLES = ("API_KEY", "JUDGE_API_KEY", "NEURONS", "PRESETS", "SLOTS", "TRACEBACK", "URL")
"""Variables with the prefix that are no settings of a server."""
_OPTIONS = {"CORPUS": "CORPORA"}
"""Options of `serve` whose variable has a name that is less like theirs."""
_SIMILARITY = 0.9


def _folder(path: Path) -> Path:
    if not path.is_dir():
        raise ValueError(no_folder(path))
    return path.resolve()


class ServedModel(BaseModel):
    """A model that a server offers.

    `path` is a folder, or the name of a model on the Hugging Face Hub (`organization/name@revision`). `engines` is the
    number of engines that load the model; Ray reserves `cpus` and `gpus` for each of them. `lora` are the folders of
    LoRA adapters of the model, by name. `tool_call_parser` is vLLM's parser of the model's tool calls, `none` to leave
    calls in the text, or null to choose it by the chat template.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    path: Path
    engines: int = Field(default=1, ge=1, le=1024)
    cpus: float = Field(default=1.0, ge=0)
    gpus: float = Field(default=0.0, ge=0)
    lora: dict[str, Annotated[Path, AfterValidator(_folder)]] = {}
    tool_call_parser: str | None = None


def _named(raw: object) -> object:
    """Parse NAME=PATH pairs, in a list or separated by commas, or read a YAML file that maps names to paths."""
    if isinstance(raw, str):
        if raw.endswith((".yaml", ".yml", ".json")) and "=" not in raw:
            try:
                return read_spec(Path(raw))
            except InvalidRequest as error:
                raise ValueError(error.message) from error  # `read_settings` knows which setting named the file
        raw = [pair for pair in raw.split(",") if pair.strip()]
    if not isinstance(raw, list | tuple):
        return raw
    named: dict[str, str] = {}
    for pair in raw:
        name, equals, path = str(pair).strip().partition("=")
        if not (equals and name and path):
            raise ValueError(f"{pair!r} is not NAME=PATH, such as mine=folder")
        if name in named:
            raise ValueError(f"{name} is set twice, to {named[name]} and to {path}")
        named[name] = path
    return named


def _served(raw: object) -> object:
    named = _named(raw)
    if not isinstance(named, dict):
        return named
    return {name: {"path": entry} if isinstance(entry, str | Path) else entry for name, entry in named.items()}


def _model_folder(model: ServedModel) -> ServedModel:
    if not model.path.is_dir() and is_path(str(model.path)):
        raise ValueError(f"{no_folder(model.path)}; give the folder of a model, or {HUB_NAMES}")
    if not model.path.is_dir() and is_hub_name(str(model.path)):
        try:
            model = model.model_copy(update={"path": fetch_model(str(model.path))})
        except InvalidRequest as error:
            raise ValueError(error.message) from error
    if not (model.path / "config.json").is_file():
        raise ValueError(f"{model.path} is not a model folder: it has no config.json")
    return model


ModelFolder = Annotated[ServedModel, AfterValidator(_model_folder)]


def _file(path: Path) -> Path:
    if not path.is_file():
        raise ValueError(no_file(path))
    return path.resolve()


Folder = Annotated[Path, AfterValidator(_folder)]
File = Annotated[Path, AfterValidator(_file)]


class Settings(BaseSettings):
    """All settings of a server.

    Attributes:
        home: The folder of the database, and of results and neuron sets unless `results` names another place.
        results: Where results and neuron sets are stored: a folder, or a prefix in an object store.
        database_url: The URL of a PostgreSQL database; by default an SQLite file in `home`.
        keep_days: Days after a sweep's end until its results are deleted; by default never.
        keep_events_days: Days after a sweep's end until the events of its cells are deleted.
        models: The models on offer besides the atlas, by name.
        lora: The LoRA adapters of the only model of `models`, or of the atlas without any, by name. With several
            models, a file of models says which adapters each has.
        tool_call_parser: vLLM's parser of the tool calls of that model, likewise.
        corpora: The corpora on offer besides that of the atlas, by name.
        data: A folder with a subfolder for each data set. A data set that is not there is downloaded from the Hugging
            Face Hub to `hub_cache`, or read from clones in `hub_mirror`, unless `hub` is false.
        lm_eval_tasks: A folder of lm-eval tasks (YAML).
        tensor_parallel_size: Devices that share each layer of a model; vllm only.
        pipeline_parallel_size: Groups of devices that each hold a part of the layers; vllm only.
        batch_invariant: Whether engines run in vLLM's batch-invariant mode; vllm on a GPU only.
        unfused_experts: Whether mixtures of experts are computed without vLLM's fused kernel on a GPU; vllm only.
        allow_untested_vllm: Whether a vLLM release may be run with which steering was not tested.
        compile: Whether vLLM compiles the models at its start.
        cells_per_engine: Cells that an engine computes at once.
        atlas: Whether the bundled model is offered. Its corpus always is.
        keys: The file of API keys; by default `keys.json` in `home`.
        behind_tls_proxy: Whether a proxy in front of the server terminates TLS.
        max_requests_a_minute: The limit for each API key; 0 means no limit. For the other limits see
            `api.auth.limits`.
        open_metrics: Whether `/metrics` can be read without a key.
        open_page: Whether the web page can be loaded without a key; it shows no data without one.
        otlp_endpoint: The base URL of an OTLP collector that receives spans, if any.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        env_ignore_empty=True,  # a Compose file passes an empty text for an unset variable
    )

    host: str = Field(default="127.0.0.1", min_length=1)
    port: int = Field(default=8700, ge=0, le=65535)
    home: Path = Path("ampsweep-home")
    results: str | None = None
    database_url: str | None = None
    keep_days: float | None = Field(default=None, gt=0)
    keep_events_days: float = Field(default=30.0, gt=0)
    models: Annotated[dict[str, ModelFolder], NoDecode, BeforeValidator(_served)] = {}
    lora: Annotated[dict[str, Folder], NoDecode, BeforeValidator(_named)] = {}
    tool_call_parser: str | None = None
    corpora: Annotated[dict[str, Folder], NoDecode, BeforeValidator(_named)] = {}
    data: Folder | None = None
    hub: bool = True
    hub_cache: Path = Path("~/.cache/ampsweep/hub")
    hub_mirror: Folder | None = None
    lm_eval_tasks: Folder | None = None
    engine: EngineKind = "vllm"
    dtype: Dtype = "float32"
    tensor_parallel_size: int = Field(default=1, ge=1, le=64)
    pipeline_parallel_size: int = Field(default=1, ge=1, le=64)
    batch_invariant: bool = False
    unfused_experts: bool = False
    allow_untested_vllm: bool = False
    compile: bool = True
    ray_address: str | None = None
    cells_per_engine: int = Field(default=8, ge=1, le=1024)
    atlas: bool = True
    keys: Path | None = None
    tls_cert: File | None = None
    tls_key: File | None = None
    behind_tls_proxy: bool = False
    max_body_bytes: int = Field(default=4 * 1024 * 1024, ge=1024, le=1024**3)
    max_file_bytes: int = Field(default=200 * 1024 * 1024, ge=1024, le=16 * 1024**3)
    max_prompt_chars: int = Field(default=400_000, ge=1)
    max_tokens: int = Field(default=32_768, ge=1)
    max_capture_bytes: int = Field(default=64 * 1024 * 1024, ge=1)
    max_cells: int = Field(default=100_000, ge=1)
    max_streams: int = Field(default=256, ge=1)
    max_requests_a_minute: int = Field(default=6000, ge=0)
    open_metrics: bool = False
    open_page: bool = False
    log_format: LogFormat = "console"
    log_level: LogLevel = "info"
    otlp_endpoint: str | None = Field(default=None, pattern="^https?://")

    def served(self) -> dict[str, ServedModel]:
        """Return all models on offer, by name.

        Raises:
            InvalidRequest: Adapters or a parser are given, and it is not clear of which model (param "lora" or
                "tool_call_parser").
        """
        models = {**({ATLAS: ServedModel(path=ATLAS_MODEL)} if self.atlas else {}), **self.models}
        if self.lora:
            name = self._only_model(models, "the adapters belong to", param="lora")
            models[name] = models[name].model_copy(update={"lora": {**models[name].lora, **self.lora}})
        if self.tool_call_parser is not None:
            name = self._only_model(models, "the parser is for", param="tool_call_parser")
            models[name] = models[name].model_copy(update={"tool_call_parser": self.tool_call_parser})
        return models

    def _only_model(self, models: dict[str, ServedModel], what: str, *, param: str) -> str:
        """Return the model that an option without the name of a model is about."""
        candidates = list(self.models or models)
        if len(candidates) != 1:
            message = f"which of the models {', '.join(candidates)} {what} is not known"
            raise InvalidRequest(f"{message}; give `{param}` to a model in a file of models", param=param)
        return candidates[0]

    def key_file(self) -> Path:
        """Return the path of the file of API keys, which may not exist yet."""
        return self.home / "keys.json" if self.keys is None else self.keys

    def all_corpora(self) -> dict[str, Path]:
        """Return the folders of all corpora on offer, by name."""
        return {ATLAS: ATLAS_CORPUS, **self.corpora}


def read_settings(**options: Any) -> Settings:
    """Return the settings.

    Args:
        options: Settings by name, which take precedence over the environment; None leaves a setting to it.

    Raises:
        InvalidRequest: A value is invalid. `param` is the name of the option or, for a value from the environment, of
            the variable.
    """
    set_options = {name: value for name, value in options.items() if value is not None}
    if SECRETS.is_dir():
        set_options = {"_secrets_dir": SECRETS, **set_options}
    try:
        return Settings(**set_options)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name, *rest = map(str, first["loc"])
        shown = ".".join([name if name in set_options else PREFIX + name.upper(), *rest])
        message = first["msg"].removeprefix("Value error, ")
        values = first["input"] if isinstance(first["input"], list) else [first["input"]]
        given = "" if any(str(value) in message for value in values) else f"; got {quoted(first['input'])}"
        raise InvalidRequest(f"{shown}: {message}{given}", param=shown) from error


def misspelled_variables(names: Iterable[str]) -> list[str]:
    """Return a warning for each name of a variable that is almost that of a setting, and so sets nothing.

    Other unknown names are not mentioned: Kubernetes sets `AMPSWEEP_SERVICE_HOST` and others for a service `ampsweep`.
    """
    settings = [PREFIX + name.upper() for name in Settings.model_fields]
    known = {*settings, *(PREFIX + name for name in _OTHER_VARIABLES)}
    unknown = [name for name in sorted(names) if name.upper().startswith(PREFIX) and name.upper() not in known]
    warnings: list[str] = []
    for name in unknown:
        of_option = _OPTIONS.get(name.upper().removeprefix(PREFIX))
        similar = get_close_matches(name.upper(), settings, n=1, cutoff=_SIMILARITY)
        meant = [PREFIX + of_option] if of_option else similar
        warnings += [f"{name} is no setting and has no effect; did you mean {each}?" for each in meant]
    return warnings
