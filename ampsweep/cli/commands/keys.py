"""`ampsweep keys create|list|revoke`: the API keys of a server. A running server applies changes at once."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ampsweep.cli.options.values import comma_separated
from ampsweep.cli.terminal.output import AsJson, echo, show
from ampsweep.errors import InvalidRequest

if TYPE_CHECKING:
    from api.auth.api_keys import ApiKey

app = typer.Typer(
    help="Create, list and revoke the API keys of a server.",
    no_args_is_help=True,
    add_completion=False,
)

Home = Annotated[
    Path,
    typer.Option(envvar="AMPSWEEP_HOME", help="The home folder of the server; it holds keys.json.", show_default=True),
]
File = Annotated[
    Path | None,
    typer.Option(
        "--keys", envvar="AMPSWEEP_KEYS", help="The file of API keys, if it is not keys.json in the home folder."
    ),
]
HOME = Path("ampsweep-home")


@app.command()
def create(
    name: Annotated[str, typer.Option(help="The owner's name; sweeps submitted with the key are recorded under it.")],
    scopes: Annotated[str, typer.Option(help="Comma-separated permissions: read, submit, admin.")] = "read,submit",
    home: Home = HOME,
    keys: File = None,
    as_json: AsJson = False,
) -> None:
    """Create a key and print it; it is never shown again. Once there is a key, the server requires one."""
    from api.auth.api_keys import KeyFile, KeyScope
    from jobs.clock import SystemClock

    scope_names = comma_separated(scopes)
    for scope in scope_names:
        if scope not in set(KeyScope):
            raise InvalidRequest(f"unknown scope {scope!r}; known: {', '.join(KeyScope)}", param="scopes")
    key_file = KeyFile(keys or home / "keys.json")
    key, token = key_file.create(name, frozenset(map(KeyScope, scope_names)), now=SystemClock().now())
    if not as_json:
        echo(f"key {key.id} for {key.name}; it is shown only once:", err=True)
    show({**_content(key), "key": token}, token, as_json=as_json)


@app.command(name="list")
def list_(home: Home = HOME, keys: File = None, as_json: AsJson = False) -> None:
    """List the names, scopes and states of all keys, including revoked ones. Never prints the keys themselves."""
    from api.auth.api_keys import KeyFile

    for key in KeyFile(keys or home / "keys.json").all():
        state = "valid" if key.revoked_at is None else f"revoked {_day(key.revoked_at)}"
        scopes = ",".join(sorted(key.scopes))
        text = f"{key.id}  {key.name:<20} {scopes:<20} created {_day(key.created_at)}  {state}"
        show(_content(key), text, as_json=as_json)


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="The id of the key, as `ampsweep keys list` shows it.")],
    home: Home = HOME,
    keys: File = None,
    as_json: AsJson = False,
) -> None:
    """Revoke a key at once and for good."""
    from api.auth.api_keys import KeyFile
    from jobs.clock import SystemClock

    key = KeyFile(keys or home / "keys.json").revoke(key_id, now=SystemClock().now())
    show(_content(key), f"key {key.id} of {key.name} is revoked", as_json=as_json)


def _content(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "scopes": sorted(key.scopes),
        "created_at": key.created_at,
        "revoked_at": key.revoked_at,
    }


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).date().isoformat()
