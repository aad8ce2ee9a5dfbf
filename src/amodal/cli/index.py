"""The verb ``index``: look at an index, copy it to another place, and measure what an approximate one finds."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from amodal.cli.console import bars, emit, note, table
from amodal.cli.options import Json
from amodal.errors import DataError, UsageError

__all__ = ["app"]

app = typer.Typer(help="Show, copy and measure indexes.", no_args_is_help=True)

URL = Annotated[str, typer.Argument(metavar="URL", help="An index; see: amodal list indexes.")]


@app.command()
def info(
    url: URL,
    checksum: Annotated[bool, typer.Option("--checksum", help="Read every entry and add a checksum of all.")] = False,
    json: Json = False,
) -> None:
    """Say what an index holds."""
    from amodal import index as indexes
    from amodal.index.copying import checksum as checksum_of

    with indexes.open(url, readonly=True) as index:
        spec = index.spec
        facts: dict[str, Any] = {
            "entries": index.count(),
            "kind": spec.kind,
            "bits" if spec.kind == "binary" else "dim": spec.bits or spec.dim,
            "exact": index.exact,
            "attributes": spec.attributes,
            "lookups": list(spec.lookups),
            "fingerprint": spec.fingerprint,
        }
        if checksum:
            with bars() as progress:
                facts["checksum"] = checksum_of(index, progress=progress)
    if json:
        emit(facts)
        return
    facts["attributes"] = ", ".join(f"{name} ({kind})" for name, kind in spec.attributes.items())
    facts["lookups"] = ", ".join(spec.lookups)
    facts["exact"] = "yes" if index.exact else "no"
    table("", ("what", "found"), list(facts.items()))


@app.command()
def copy(
    source: Annotated[str, typer.Argument(metavar="FROM", help="The index to read.")],
    target: Annotated[str, typer.Argument(metavar="TO", help="Where to write it; made if it is not there.")],
    json: Json = False,
) -> None:
    """Copy an index to another place, and check that both hold the same.

    If it is interrupted, run it again: what was written is kept.
    """
    from amodal import index as indexes
    from amodal.index.copying import checksum
    from amodal.index.copying import copy as copy_entries

    with (
        indexes.open(source, readonly=True) as old,
        indexes.open(target, create=old.spec) as new,
        bars() as progress,
    ):
        copied = copy_entries(old, new, progress=progress)
        count, found = new.count(), checksum(new, progress=progress)
    if (count, found) != (copied.entries, copied.checksum):
        raise DataError(
            f"{target} holds {count:,} entries with checksum {found}, and {copied.entries:,} with checksum "
            f"{copied.checksum} were read. If somebody writes to one of them, let them finish; then run this again."
        )
    if json:
        emit({"entries": copied.entries, "written": copied.written, "checksum": found})
    else:
        kept = copied.entries - copied.written
        already = f", of which {kept:,} were there already" if kept else ""
        note(f"{copied.entries:,} entries{already}. Both indexes have the checksum {found}.")


@app.command()
def recall(
    url: Annotated[str, typer.Argument(metavar="URL", help="An index, for instance file:photos.amodal?ivf=4096")],
    k: Annotated[int, typer.Option("--k", min=1, help="Entries that each query asks for.")] = 100,
    queries: Annotated[int, typer.Option("--queries", min=1, help="Entries of the index that ask.")] = 200,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the sample.")] = 0,
    json: Json = False,
) -> None:
    """Measure what an approximate index finds, on its own codes, and how long it takes."""
    from dataclasses import asdict

    from amodal import index as indexes
    from amodal.index.recall import recall as measure

    with indexes.open(url, readonly=True) as index:
        if index.exact:
            raise UsageError(f"{url} searches exactly. To measure an inverted file, write file:PATH?ivf=CELLS.")
        with indexes.open(url.partition("?")[0], readonly=True) as exact:
            found = measure(index, exact, k=k, queries=queries, seed=seed)
    if json:
        emit(asdict(found))
    else:
        note(
            f"recall@{k} {found.recall:.4f} on average, {found.worst:.4f} at worst, of {found.queries:,} queries; "
            f"{found.ms:.3f} ms a query, {found.exact_ms:.3f} ms by the exact scan."
        )
