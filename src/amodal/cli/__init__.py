"""The command line: parse, call, print; no logic of its own."""

from amodal.cli.app import main

__all__ = ["main"]
