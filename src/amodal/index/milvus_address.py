"""The address of a collection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self
from urllib.parse import parse_qsl, unquote, urlsplit

from amodal.errors import UsageError, nearest

__all__ = ["Address"]

_OPTIONS = ("consistency", "database", "timeout", "tls")
_PORT = 19530
_TIMEOUT = 120  # seconds; a server that was killed needs half a minute until it answers


@dataclass(frozen=True)
class Address:
    """Where a collection is.

    Attributes:
        uri: What the client connects to.
        login: User, password and database, as the client names them; without those that were not given.
        collection: Name of the collection.
        strong: Whether every read waits for every write, also of others.
        timeout: Seconds that a call may take.
        place: For messages, without password.
    """

    uri: str
    login: Mapping[str, str]
    collection: str
    strong: bool
    timeout: float
    place: str

    @classmethod
    def parsed(cls, url: str) -> Self:
        """The address in a URL ``milvus://user:password@host:19530/collection``.

        These may follow a question mark: ``consistency=strong`` (see ``MilvusIndex``), ``database=name``,
        ``timeout=seconds`` and ``tls=yes``.

        Raises:
            UsageError: If host or collection are missing, or what follows cannot be understood.
        """
        try:
            parts = urlsplit(url)
            port = parts.port or _PORT
        except ValueError:
            parts, port = urlsplit(""), 0
        collection = parts.path.strip("/")
        if not parts.hostname or not (collection.isidentifier() and collection.isascii()):
            raise UsageError(
                "an index in Milvus has an address like milvus://host:19530/collection, the collection's name of "
                f"letters, digits and _; got one for host {parts.hostname!r} and collection {collection!r}."
            )
        place = f"milvus://{parts.hostname}:{port}/{collection}"
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        for name in options:
            if name not in _OPTIONS:
                raise UsageError(f"{place}: " + nearest(name, _OPTIONS, what="option"))
        consistency = options.get("consistency", "own")
        if consistency not in ("own", "strong"):
            raise UsageError(f"{place}: " + nearest(consistency, ["own", "strong"], what="consistency"))
        try:
            timeout = float(options.get("timeout", _TIMEOUT))
        except ValueError:
            raise UsageError(f"{place}: timeout is a number of seconds; got {options['timeout']!r}.") from None
        login = {"user": parts.username, "password": parts.password, "db_name": options.get("database")}
        given = {name: unquote(value) for name, value in login.items() if value}
        uri = f"{'https' if options.get('tls') == 'yes' else 'http'}://{parts.hostname}:{port}"
        return cls(uri, given, collection, consistency == "strong", timeout, place)
