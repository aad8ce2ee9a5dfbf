"""How long work tells how far it is. The library never prints; the command line draws bars from this."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Progress"]

Progress = Callable[[int, int, str], None]
"""Called as ``progress(done, total, what)``; ``what`` names the work and may go on after " · " with a number."""
