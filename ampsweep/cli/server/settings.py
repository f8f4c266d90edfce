"""What a server is told at its start, by options of `ampsweep serve`, else by the environment (AMPSWEEP_...).

What is secret may also be a file in /run/secrets.

A value that cannot be used stops the start, with its name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from ampsweep.bundled import ATLAS, ATLAS_CORPUS, ATLAS_MODEL
from ampsweep.domain.choices import EngineKind
from ampsweep.errors import InvalidRequest
from ampsweep.folders.hub_model import fetch_model, is_hub_name
from ampsweep.spec_file import read_spec
from ampsweep.telemetry.logs import LogFormat, LogLevel

PREFIX = "AMPSWEEP_"
SECRETS = Path("/run/secrets")
"""Where containers find their secrets: a file `ampsweep_database_url` there is that setting, if none sets it."""


class ServedModel(BaseModel):
    """A model on the server's list: its folder or its name on the Hub, and how many engines hold it.

    The name is `organization/name@revision`. Each engine takes so much of the machine.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    path: Path
    engines: int = Field(default=1, ge=1, le=1024)
    cpus: float = Field(default=1.0, ge=0)
    gpus: float = Field(default=0.0, ge=0)


def _named(raw: object) -> object:
    """Read NAME=PATH pairs, in a list or with commas, or the name of a YAML file with a mapping."""
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
            raise ValueError(f"{pair!r} is not NAME=PATH")
        if name in named:
            raise ValueError(f"{name} is given twice, as {named[name]} and as {path}")
        named[name] = path
    return named


def _served(raw: object) -> object:
    named = _named(raw)
    if not isinstance(named, dict):
        return named
    return {name: {"path": entry} if isinstance(entry, str | Path) else entry for name, entry in named.items()}


def _model_folder(model: ServedModel) -> ServedModel:
    if not model.path.is_dir() and is_hub_name(str(model.path)):
        try:
            model = model.model_copy(update={"path": fetch_model(str(model.path))})
        except InvalidRequest as error:
            raise ValueError(error.message) from error
    if not (model.path / "config.json").is_file():
        raise ValueError(f"{model.path} is no model folder: it has no config.json")
    return model


def _none_if_empty(raw: object) -> object:
    """Read what a Compose file passes on of a variable that nobody has set."""
    return None if raw == "" else raw


def _folder(path: Path) -> Path:
    if not path.is_dir():
        raise ValueError(f"there is no folder {path}")
    return path.resolve()


ModelFolder = Annotated[ServedModel, AfterValidator(_model_folder)]


def _file(path: Path) -> Path:
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    return path.resolve()


Folder = Annotated[Path, AfterValidator(_folder)]
File = Annotated[Path, AfterValidator(_file)]


class Settings(BaseSettings):
    """Everything a server can be told. The model `atlas` is offered unless `atlas` is false; its corpus always is.

    `database_url` is a PostgreSQL server's, by default an SQLite file in `home`. `keep_days` is how long a sweep's
    results stay after its end, by default for ever; `keep_events_days` is how long the events of its cells do. `keys`
    is the file of API keys, by default `keys.json` in `home`.
    A data set that `data` has not is fetched from the Hugging Face Hub into `hub_cache`, or read from clones in
    `hub_mirror`, unless `hub` is false. `lm_eval_tasks` is a folder of lm-eval tasks (YAML).
    A vllm engine spreads its model over `tensor_parallel_size` (within each layer) x `pipeline_parallel_size` (by
    layers) devices.
    The limits are those of `api.auth.limits`; `max_requests_a_minute` 0 sets none. `open_metrics` lets anybody read
    `/metrics`, who else needs a key; `open_page` lets anybody load the web page, which shows nothing without one.
    `otlp_endpoint` is the base of a collector that spans are sent to, if any.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True, allow_inf_nan=False)

    host: str = "127.0.0.1"
    port: int = Field(default=8700, ge=0, le=65535)
    home: Path = Path("ampsweep-home")
    results: str | None = None
    database_url: str | None = None
    keep_days: float | None = Field(default=None, gt=0)
    keep_events_days: float = Field(default=30.0, gt=0)
    models: Annotated[dict[str, ModelFolder], NoDecode, BeforeValidator(_served)] = {}
    corpora: Annotated[dict[str, Folder], NoDecode, BeforeValidator(_named)] = {}
    data: Folder | None = None
    hub: bool = True
    hub_cache: Path = Path("~/.cache/ampsweep/hub")
    hub_mirror: Folder | None = None
    lm_eval_tasks: Folder | None = None
    engine: EngineKind = "vllm"
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    tensor_parallel_size: int = Field(default=1, ge=1, le=64)
    pipeline_parallel_size: int = Field(default=1, ge=1, le=64)
    ray_address: str | None = None
    cells_per_engine: int = Field(default=8, ge=1, le=1024)
    atlas: bool = True
    keys: Path | None = None
    tls_cert: File | None = None
    tls_key: File | None = None
    behind_tls_proxy: bool = False
    max_body_bytes: int = Field(default=4 * 1024 * 1024, ge=1024, le=1024**3)
    max_prompt_chars: int = Field(default=400_000, ge=1)
    max_tokens: int = Field(default=32_768, ge=1)
    max_cells: int = Field(default=100_000, ge=1)
    max_streams: int = Field(default=256, ge=1)
    max_requests_a_minute: int = Field(default=6000, ge=0)
    open_metrics: bool = False
    open_page: bool = False
    log_format: LogFormat = "console"
    log_level: LogLevel = "info"
    otlp_endpoint: Annotated[str | None, BeforeValidator(_none_if_empty)] = Field(default=None, pattern="^https?://")

    def served(self) -> dict[str, ServedModel]:
        """Return all models on the list."""
        return {**({ATLAS: ServedModel(path=ATLAS_MODEL)} if self.atlas else {}), **self.models}

    def key_file(self) -> Path:
        """Return where the API keys are, or will be."""
        return self.home / "keys.json" if self.keys is None else self.keys

    def all_corpora(self) -> dict[str, Path]:
        """Return all corpora on the list."""
        return {ATLAS: ATLAS_CORPUS, **self.corpora}


def read_settings(**options: Any) -> Settings:
    """Return the settings; options that are None are left to the environment.

    Raises InvalidRequest whose `param` is the option's name or, where the environment set it, the variable's.
    """
    given = {name: value for name, value in options.items() if value is not None}
    if SECRETS.is_dir():
        given = {"_secrets_dir": SECRETS, **given}
    try:
        return Settings(**given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name, *rest = map(str, first["loc"])
        shown = ".".join([name if name in given else PREFIX + name.upper(), *rest])
        message = first["msg"].removeprefix("Value error, ")
        raise InvalidRequest(f"{shown}: {message}; got {first['input']!r}", param=shown) from error
