"""Verbs about the service: ``serve``, ``keys add | list | revoke``, and ``search`` where it asks a service."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from amodal.cli.console import emit, note, table
from amodal.cli.options import Json
from amodal.errors import MissingExtra, UsageError, nearest

__all__ = ["register", "search_server"]

State = Annotated[Path, typer.Option("--state", help="Folder of the service: keys and imports.")]
STATE = Path("amodal-service")

keys = typer.Typer(help="Make, list and revoke the service's keys.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.command()(serve)
    app.add_typer(keys, name="keys")


def serve(
    model: Annotated[Path, typer.Argument(help="A folder that fit has written, or a symbolic link to one.")],
    index: Annotated[str | None, typer.Option(help="URL of the index; the model's own by default.")] = None,
    state: State = STATE,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen at; 0 for any.")] = 8765,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="A further name under which a service on loopback may be asked.")
    ] = None,
    origin: Annotated[
        list[str] | None, typer.Option(help="Another site whose pages may ask, for instance https://shop.example.")
    ] = None,
    read_only: Annotated[bool, typer.Option("--read-only", help="Refuse writes.")] = False,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds that an answer may take.")] = 30.0,
    max_body: Annotated[int, typer.Option(min=1, help="MiB of a request.")] = 32,
    max_import: Annotated[int, typer.Option(min=1, help="MiB of an import.")] = 1024,
    rate: Annotated[float, typer.Option(min=0, help="Requests per second of one key; 0 for any number.")] = 0.0,
    readers: Annotated[int, typer.Option(min=1, help="Searches at once.")] = 4,
) -> None:
    """Answer over HTTP, with a page to search at.

    Listens on this machine only unless told otherwise; for others there must be a key. SIGHUP lets the model that now
    lies at the path answer, without dropping a request.
    """
    try:
        from amodal.service.run import serve as run
        from amodal.service.settings import MiB, Settings
    except ModuleNotFoundError as error:
        raise MissingExtra(f"The service's package {error.name}", "service") from error

    run(
        Settings(
            model=model,
            index=index,
            state=state,
            host=host,
            port=port,
            hosts=tuple(allow_host or ()),
            origins=tuple(origin or ()),
            readonly=read_only,
            timeout=timeout,
            max_body=max_body * MiB,
            max_import=max_import * MiB,
            rate=rate,
            readers=readers,
        )
    )


@keys.command()
def add(
    name: Annotated[str, typer.Option(help="What the key is for.")],
    scope: Annotated[str, typer.Option(help="read, or write, which includes reading.")] = "read",
    rate: Annotated[float | None, typer.Option(help="Its requests per second; the service's by default.")] = None,
    state: State = STATE,
    json: Json = False,
) -> None:
    """Make a key, and print it: the only time that it can be seen."""
    from amodal.service.keys import KeyRing

    if scope not in ("read", "write"):
        raise UsageError(nearest(scope, ["read", "write"], what="scope"))
    key, secret = KeyRing(state).add(name, "write" if scope == "write" else "read", rate=rate)
    if json:
        emit({"id": key.id, "name": key.name, "scope": key.scope, "key": secret})
    else:
        note(f"{secret}\nKeep it: only a hash is stored. Its id is {key.id}.")


@keys.command("list")
def show(state: State = STATE, json: Json = False) -> None:
    """The keys that were made."""
    from amodal.service.keys import KeyRing

    found = KeyRing(state).all()
    if json:
        emit({"keys": [{name: value for name, value in vars(key).items() if name != "hash"} for key in found]})
    else:
        rows = [(key.id, key.name, key.scope, key.rate or "", key.created, key.revoked or "") for key in found]
        table("", ("id", "name", "scope", "rate", "created", "revoked"), rows)


@keys.command()
def revoke(id: Annotated[str, typer.Argument(help="Id of the key.")], state: State = STATE, json: Json = False) -> None:
    """Make a key useless, at once and for ever."""
    from amodal.service.keys import KeyRing

    key = KeyRing(state).revoke(id)
    if json:
        emit({"id": key.id, "revoked": key.revoked})
    else:
        note(f"{key.id} ({key.name}) is revoked.")


def search_server(
    server: str,
    asked: str,
    content: str,
    *,
    picture: bool,
    into: str | None,
    k: int,
    where: str | None,
    radius: float | None,
    json: bool,
) -> None:
    """Ask a service and print what it finds.

    Args:
        server: Its address; the key is in AMODAL_KEY.
        asked: What is searched by: "id", or a modality.
        content: The id, the words, or the path of a picture.
        picture: Whether the content is a picture.
        into: Find in this modality only.
        k: How many items.
        where: Only items for which this holds.
        radius: Only items at most this far.
        json: Print JSON.
    """
    from amodal.client import Client

    with Client(server, key=os.environ.get("AMODAL_KEY")) as client:
        modality = None if asked in ("id", "text", "image") else asked
        by: dict[str, Any] = {"id": content} if asked == "id" else {"picture" if picture else "text": content}
        if modality is not None and client.model()["modalities"].get(modality, {}).get("kind") == "picture":
            by = {"picture": content}
        found = client.search(**by, modality=modality, into=into, k=k, where=where, radius=radius)
    if json:
        emit({"matches": [vars(one) for one in found]})
        return
    rows = [
        (rank, f"{m.distance:g}", m.id, m.modality, m.content.get("text") or "", ", ".join(m.labels))
        for rank, m in enumerate(found, 1)
    ]
    table("", ("", "distance", "item", "matched", "content", "labels"), rows)
