"""The program ``amodal``: its verbs, and what happens to errors."""

from __future__ import annotations

import os
import sys
import warnings
from typing import Annotated

import typer

from amodal._version import __version__
from amodal.cli import bench, data, index, info, model, serve
from amodal.cli.console import fail, settings, warn

__all__ = ["app", "main"]

INTERRUPTED = 130  #: exit status of a program that Ctrl-C has ended

app = typer.Typer(
    name="amodal",
    help="Cross-modal retrieval that learns from incomplete data.",
    epilog="Begin with: amodal demo",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"amodal {__version__}")  # noqa: T201
        raise typer.Exit


@app.callback()
def start(
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    threads: Annotated[int, typer.Option("--threads", min=0, help="Threads for numerical work; 0 for all.")] = 0,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Cross-modal retrieval that learns from incomplete data."""
    settings.quiet, settings.debug = quiet, debug
    if threads:
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
            os.environ[name] = str(threads)


model.register(app)
app.add_typer(data.app, name="data")
app.add_typer(bench.app, name="bench")
app.add_typer(index.app, name="index")
serve.register(app)
info.register(app)


def main() -> None:
    """Run the program; whatever goes wrong ends in a sentence and an exit status, never in a traceback."""
    warnings.showwarning = warn
    try:
        app()
    except SystemExit as end:
        if end.code == INTERRUPTED:
            print("Interrupted. Finished work is kept; run the same command again to go on.", file=sys.stderr)  # noqa: T201
        raise
    except Exception as error:
        sys.exit(fail(error))
