"""API keys: what is kept of them is a hash, and when it was made and revoked."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from amodal.data.files import replacing
from amodal.errors import DataError, UsageError, nearest

__all__ = ["Key", "KeyRing", "Scope", "now"]

Scope = Literal["read", "write"]
PREFIX = "amodal_"


@dataclass(frozen=True)
class Key:
    """What is known of a key.

    Attributes:
        id: Its public part, which may stand in logs.
        name: What it is for.
        scope: "read", or "write", which includes reading.
        hash: SHA-256 of its secret part, which is 256 random bits and so needs no slow hash.
        created: When it was made.
        rate: Its own requests per second; None for the service's.
        revoked: When it was revoked, or None.
    """

    id: str
    name: str
    scope: Scope
    hash: str
    created: str
    rate: float | None = None
    revoked: str | None = None


class KeyRing:
    """The keys in ``keys.json`` of a service's folder; changes to the file are seen at once.

    Once a key was made, requests need one, whether or not any is left unrevoked.

    Args:
        folder: The service's folder; made when the first key is.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "keys.json"
        self._seen: tuple[int, int] | None = None
        self._keys: dict[str, Key] = {}
        self._locked = False

    def add(self, name: str, scope: Scope, *, rate: float | None = None) -> tuple[Key, str]:
        """Make a key.

        Args:
            name: What it is for.
            scope: What it may do.
            rate: Requests per second; the service's by default.

        Returns:
            What is known of it, and the key itself, which is kept nowhere.

        Raises:
            UsageError: If there is no such scope, or the rate is not positive.
            DataError: If the file is damaged or cannot be written.
        """
        if scope not in ("read", "write"):
            raise UsageError(nearest(scope, ["read", "write"], what="scope"))
        if rate is not None and not rate > 0:
            raise UsageError(f"a rate is a positive number of requests per second; got {rate}.")
        public, secret = secrets.token_hex(4), secrets.token_urlsafe(32)
        key = Key(public, name, scope, _hash(secret), now(), rate)
        self._write([*self.all(), key])
        return key, f"{PREFIX}{public}_{secret}"

    def all(self) -> list[Key]:
        """Every key ever made, revoked ones too."""
        self._refresh()
        return list(self._keys.values())

    def revoke(self, id: str) -> Key:
        """Make a key useless, now and for ever.

        Raises:
            UsageError: If there is no such key.
        """
        keys = {key.id: key for key in self.all()}
        if id not in keys:
            raise UsageError(nearest(id, keys, what="key"))
        keys[id] = replace(keys[id], revoked=keys[id].revoked or now())
        self._write(list(keys.values()))
        return keys[id]

    @property
    def needed(self) -> bool:
        """Whether requests need a key."""
        self._refresh()
        return self._locked

    def find(self, presented: str) -> Key | None:
        """The valid key that was presented; None if there is none such."""
        self._refresh()
        public, _, secret = presented.removeprefix(PREFIX).partition("_")
        key = self._keys.get(public)
        known = key is not None and key.revoked is None
        same = hmac.compare_digest(_hash(secret), key.hash if key is not None else _hash(""))
        return key if known and same and presented.startswith(PREFIX) else None

    def _refresh(self) -> None:
        try:
            found = self._path.stat()
        except FileNotFoundError:
            self._keys, self._seen = {}, None  # whoever removes the file locks everybody out of a running service
            return
        if self._seen != (found.st_mtime_ns, found.st_ino):
            try:
                self._keys = {one["id"]: Key(**one) for one in json.loads(self._path.read_text("utf-8"))["keys"]}
            except (OSError, ValueError, KeyError, TypeError) as error:
                self._keys, self._locked = {}, True
                raise DataError(f"{self._path} is damaged ({type(error).__name__}). Restore it.") from error
            self._seen = (found.st_mtime_ns, found.st_ino)
            self._locked = self._locked or bool(self._keys)

    def _write(self, keys: list[Key]) -> None:
        try:
            with replacing(self._path) as part:
                part.write_text(json.dumps({"keys": [asdict(key) for key in keys]}, indent=2) + "\n", "utf-8")
            self._path.chmod(0o600)
        except OSError as error:
            raise DataError(f"{self._path} cannot be written ({error}).") from error


def now() -> str:
    """The time as it stands in answers and files."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()
