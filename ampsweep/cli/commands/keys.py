"""`ampsweep keys create|list|revoke`: who may use a server. A running one follows at once."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ampsweep.cli.terminal.output import AsJson, show
from ampsweep.errors import InvalidRequest

if TYPE_CHECKING:
    from api.auth.api_keys import ApiKey

app = typer.Typer(help="Make, list and revoke the API keys of a server.", no_args_is_help=True)

Home = Annotated[
    Path, typer.Option(envvar="AMPSWEEP_HOME", help="The server's home; the keys are its keys.json.", show_default=True)
]
File = Annotated[Path | None, typer.Option("--keys", envvar="AMPSWEEP_KEYS", help="Another file of keys.")]
HOME = Path("ampsweep-home")


@app.command()
def create(
    name: Annotated[str, typer.Option(help="Whose key it is; sweeps are noted under this name.")],
    scopes: Annotated[str, typer.Option(help="What it opens: read, submit, admin; with commas.")] = "read,submit",
    home: Home = HOME,
    keys: File = None,
    as_json: AsJson = False,
) -> None:
    """Make a key and print it: the only time it is seen. From the first key on the server asks for one."""
    from api.auth.api_keys import KeyFile, KeyScope
    from jobs.clock import SystemClock

    scope_names = [scope.strip() for scope in scopes.split(",") if scope.strip()]
    for scope in scope_names:
        if scope not in set(KeyScope):
            raise InvalidRequest(f"unknown scope {scope!r}; known: {', '.join(KeyScope)}", param="scopes")
    key_file = KeyFile(keys or home / "keys.json")
    key, token = key_file.create(name, frozenset(map(KeyScope, scope_names)), now=SystemClock().now())
    typer.echo(f"key {key.id} for {key.name}; it is shown this once:", err=True)
    show({**_content(key), "key": token}, token, as_json=as_json)


@app.command(name="list")
def list_(home: Home = HOME, keys: File = None, as_json: AsJson = False) -> None:
    """List the keys, the revoked ones too; never the keys themselves."""
    from api.auth.api_keys import KeyFile

    for key in KeyFile(keys or home / "keys.json").all():
        state = "valid" if key.revoked_at is None else f"revoked {_day(key.revoked_at)}"
        scopes = ",".join(sorted(key.scopes))
        text = f"{key.id}  {key.name:<20} {scopes:<20} made {_day(key.created_at)}  {state}"
        show(_content(key), text, as_json=as_json)


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="The key's id, as `list` shows it.")],
    home: Home = HOME,
    keys: File = None,
    as_json: AsJson = False,
) -> None:
    """Close what a key opened, for good and at once."""
    from api.auth.api_keys import KeyFile
    from jobs.clock import SystemClock

    key = KeyFile(keys or home / "keys.json").revoke(key_id, now=SystemClock().now())
    show(_content(key), f"key {key.id} of {key.name} opens nothing any more", as_json=as_json)


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
