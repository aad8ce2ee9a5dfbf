"""Where a search goes on: signed, so that nobody can make one up, and opaque, so that nobody needs to read one."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

from amodal.service.problems import Problem

__all__ = ["Cursors"]

LIFETIME = 3600.0
_MARK = 16  # bytes of the signature


class Cursors:
    """Makes and reads cursors.

    Args:
        secret: What they are signed with; the same after a restart.
        clock: Seconds since 1970.
    """

    def __init__(self, secret: bytes, clock: Callable[[], float] = time.time) -> None:
        self._secret, self._clock = secret, clock

    def write(self, generation: str, place: tuple[float, int], query: dict[str, Any]) -> str:
        """The cursor behind a match.

        Args:
            generation: Of the model that answered.
            place: Of the last match.
            query: The search, as plain values.
        """
        said = [generation, self._clock() + LIFETIME, *place, query]
        text = json.dumps(said, separators=(",", ":")).encode()
        return base64.urlsafe_b64encode(self._mark(text) + text).decode().rstrip("=")

    def read(self, cursor: str, generation: str) -> tuple[tuple[float, int], dict[str, Any]]:
        """Place and query of a cursor.

        Raises:
            Problem: If it was not made here, is too old, or belongs to another model.
        """
        try:
            signed = base64.b64decode(cursor.encode() + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            signed = b""
        mark, text = signed[:_MARK], signed[_MARK:]
        if not hmac.compare_digest(mark, self._mark(text)):
            raise Problem("cursor-invalid", 'send the "next" of an answer as it was given.')
        made_for, until, distance, entry, query = json.loads(text)
        if made_for != generation:
            raise Problem(
                "cursor-expired", "another model answers since this cursor was made; ask the first page again."
            )
        if self._clock() > until:
            raise Problem("cursor-expired", f"cursors hold {LIFETIME / 60:.0f} minutes; ask the first page again.")
        return (distance, entry), query

    def _mark(self, text: bytes) -> bytes:
        return hashlib.blake2b(text, key=self._secret, digest_size=_MARK).digest()
