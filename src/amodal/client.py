"""A client of the service: ``Client("http://127.0.0.1:8765").search(text="red shoes")``.

Needs the extra ``client``, and nothing else of the library.
"""

from __future__ import annotations

import base64
import json
import time
import uuid
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import quote

from amodal.errors import AmodalError, MissingExtra, UsageError

__all__ = ["Answer", "Client", "Import", "ServiceError", "Suggestion"]

D = TypeVar("D")
_AGAIN = (429, 503)
_ENDED = ("done", "cancelled")


class ServiceError(AmodalError):
    """The service refused, failed, or could not be reached.

    Args:
        detail: What the service said, or what happened to the connection.
        status: Its HTTP status; 0 if there was no answer.
        kind: The kind of problem, for instance "not-found".
        request_id: By which its log can be searched.
    """

    def __init__(self, detail: str, *, status: int = 0, kind: str = "unreachable", request_id: str = "") -> None:
        super().__init__(detail)
        self.status, self.kind, self.request_id = status, kind, request_id


@dataclass(frozen=True)
class Answer:
    """An item that was found.

    Attributes:
        id: Its id.
        distance: Bits, or 1 - cosine; smaller is nearer.
        score: How alike, from 0 to 1.
        modality: In which it was nearest.
        number: Which of its observations of that modality.
        content: What there is to show: its "kind", and "text" or the "url" of a picture.
        labels: Names of its classes.
        attributes: Its further columns.
        matched: A matcher's score, higher is more similar, where it has re-ranked.
    """

    id: str
    distance: float
    score: float
    modality: str
    number: int
    content: dict[str, Any]
    labels: list[str]
    attributes: dict[str, Any]
    matched: float | None = None


@dataclass(frozen=True)
class Suggestion:
    """What an item lacks, suggested.

    Attributes:
        modality: What it lacks.
        trust: From 0 to 1; None if the model imagines nothing and these are its nearest neighbours.
        matches: Real items of that modality.
    """

    modality: str
    trust: float | None
    matches: list[Answer]


@dataclass(frozen=True)
class Import:
    """How far an import is.

    Attributes:
        job: Its id.
        state: waiting, running, done or cancelled.
        lines: How many there are.
        done: How many are dealt with.
        written: Items written.
        deleted: Items deleted.
        failed: Lines that could not be used.
        errors: The first hundred of those, each with "line" and "what".
        created: When it was accepted.
        finished: When it ended, or None.
    """

    job: str
    state: str
    lines: int
    done: int
    written: int
    deleted: int
    failed: int
    errors: list[dict[str, Any]]
    created: str
    finished: str | None


class Client:
    """Asks a service.

    Every write carries an idempotency key, so that it can be sent again when an answer was lost, and is done once.

    Args:
        server: Its address, for instance "http://127.0.0.1:8765".
        key: An API key, if it needs one.
        timeout: Seconds to wait for an answer.
        retries: How often to ask again when the service cannot be reached or is overloaded.

    Raises:
        UsageError: If the address is none.
        MissingExtra: If httpx is not installed.
    """

    def __init__(self, server: str, *, key: str | None = None, timeout: float = 60.0, retries: int = 2) -> None:
        try:
            import httpx
        except ImportError as error:
            raise MissingExtra("The client's package httpx", "client") from error
        if not server.startswith(("http://", "https://")):
            raise UsageError(f'a server is an address such as http://127.0.0.1:8765; got "{server}".')
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self._http = httpx.Client(base_url=server, headers=headers, timeout=timeout, trust_env=False)
        self._server, self._retries = server, retries

    def search(
        self,
        *,
        text: str | None = None,
        picture: str | Path | bytes | None = None,
        id: str | None = None,
        vector: str | Sequence[float] | None = None,
        features: Sequence[float] | None = None,
        modality: str | None = None,
        into: str | None = None,
        k: int = 10,
        where: str | Mapping[str, Any] | None = None,
        radius: float | None = None,
        min_score: float | None = None,
        rerank: bool = False,
    ) -> list[Answer]:
        """The nearest items; name one thing to search by.

        Args:
            text: Words.
            picture: A picture's file, or its bytes.
            id: An indexed item.
            vector: A code as hex, or an embedding.
            features: A feature vector of ``modality``.
            modality: What kind of content is given, where the model has several that fit.
            into: Find in this modality only.
            k: How many items; above 1000 they are fetched page by page.
            where: Only items for which this holds, for instance ``"year >= 1990"``.
            radius: Only items at most this far.
            min_score: Only items at least this alike.
            rerank: Let the model's matcher put the first of them in order; at most 1000 items, by words, picture or id.

        Raises:
            UsageError: If not exactly one thing is given.
            ServiceError: If the service refuses or cannot be reached.
        """
        content = base64.b64encode(_bytes(picture)).decode() if picture is not None else None
        kinds = {"text": text, "picture": content, "id": id, "vector": vector, "features": features}
        given = {by: list(one) if by == "features" and one else one for by, one in kinds.items() if one is not None}
        if len(given) != 1:
            raise UsageError(f"search by exactly one of {', '.join(kinds)}; got {', '.join(given) or 'nothing'}.")
        if k < 1:
            raise UsageError(f"k, the number of items to find, is at least 1; got {k}.")
        (by,) = given
        further = {
            "modality": modality, "into": into, "where": where, "radius": radius, "min_score": min_score,
            "rerank": rerank or None,
        }  # fmt: skip
        request = {"by": by, **given, **{name: value for name, value in further.items() if value is not None}}
        found: list[Answer] = []
        while True:
            page = self._ask("POST", "/v1/search", {**request, "k": min(k - len(found), 1000)})
            for note in page.get("notes", ()):
                warnings.warn(note, stacklevel=2)
            found += [_as(Answer, one) for one in page["matches"]]
            if len(found) >= k or page["next"] is None:
                return found
            request = {"by": "cursor", "cursor": page["next"]}

    def explain(self, id: str, *, text: str | None = None, picture: str | Path | bytes | None = None) -> dict[str, Any]:
        """Why an item answers words or a picture: of each word how much it looks at each region, and what that adds.

        Args:
            id: The item.
            text: The words searched by.
            picture: Or the picture's file, or its bytes.

        Raises:
            UsageError: If not exactly one of the two is given.
            ServiceError: If the model has no matcher, or there is no such item.
        """
        if (text is None) == (picture is None):
            raise UsageError("explain an answer to text or to a picture; name exactly one of them.")
        query = {"by": "text", "text": text}
        if picture is not None:
            query = {"by": "picture", "picture": base64.b64encode(_bytes(picture)).decode()}
        return self._ask("POST", "/v1/explain", {"query": query, "id": id})

    def item(self, id: str) -> dict[str, Any]:
        """An indexed item: its parts, labels, attributes and what it lacks.

        Raises:
            ServiceError: If there is none.
        """
        return self._ask("GET", _path(id))

    def imagine(self, id: str, modality: str, *, k: int = 3) -> Suggestion:
        """What an indexed item lacks, suggested by real items.

        Raises:
            ServiceError: If there is no such item, or it has that side.
        """
        found = self._ask("GET", f"{_path(id)}?imagine={quote(modality, safe='')}&k={k}")["imagined"]
        return Suggestion(found["modality"], found["trust"], [_as(Answer, one) for one in found["matches"]])

    def picture(self, id: str, *, size: int = 256) -> bytes:
        """An item's picture as a small JPEG.

        Raises:
            ServiceError: If it has none.
        """
        content: bytes = self._send("GET", f"{_path(id)}/picture?size={size}").content
        return content

    def upsert(self, items: Sequence[Mapping[str, Any]]) -> int:
        """Write items, replacing those that are there as a whole; returns the number of entries written.

        Args:
            items: Each with "id", "modalities" (``{"text": ["red shoes"], "image": [Path("shoe.jpg")]}``), and perhaps
                "labels" and "attributes". More than 256 are sent in parts.
        """
        return self._put("upsert", items)

    def add(self, items: Sequence[Mapping[str, Any]]) -> int:
        """Write items, or modalities of items, that are not there yet. As ``upsert``."""
        return self._put("add", items)

    def delete(self, ids: Sequence[str]) -> int:
        """Take items out; returns how many there were."""
        return sum(
            self._ask("POST", "/v1/items/delete", {"ids": list(ids[start : start + 10_000])})["items"]
            for start in range(0, len(ids), 10_000)
        )

    def import_items(self, lines: Iterable[Mapping[str, Any]], *, wait: bool = True) -> Import:
        """Write many items in one durable job.

        Args:
            lines: Items as for ``upsert``, or ``{"delete": id}``.
            wait: Until it has ended.

        Raises:
            ServiceError: If it is not accepted.
        """
        body = "".join(json.dumps(_sendable(line)) + "\n" for line in lines).encode()
        job = _as(Import, self._send("POST", "/v1/imports", body, kind="application/x-ndjson").json())
        pause = 0.05
        while wait and job.state not in _ENDED:
            time.sleep(pause)
            job, pause = self.job(job.job), min(2 * pause, 2.0)
        return job

    def job(self, job: str) -> Import:
        """How far an import is."""
        return _as(Import, self._ask("GET", f"/v1/imports/{quote(job, safe='')}"))

    def model(self) -> dict[str, Any]:
        """What the model is and takes."""
        return self._ask("GET", "/v1/model")

    def index(self) -> dict[str, Any]:
        """What the index holds."""
        return self._ask("GET", "/v1/index")

    def swap(self) -> bool:
        """Let the model and index that now lie at the service's paths answer; returns whether they are new."""
        return bool(self._ask("POST", "/v1/admin/swap")["swapped"])

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _put(self, mode: str, items: Sequence[Mapping[str, Any]]) -> int:
        parts = [items[start : start + 256] for start in range(0, len(items), 256)]
        bodies = [{"mode": mode, "items": [_sendable(one) for one in part]} for part in parts]
        return sum(self._ask("POST", "/v1/items", body)["entries"] for body in bodies)

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        content = None if body is None else json.dumps(body).encode()
        found: dict[str, Any] = self._send(method, path, content).json()
        return found

    def _send(self, method: str, path: str, body: bytes | None = None, *, kind: str = "application/json") -> Any:
        import httpx

        headers = {"Idempotency-Key": uuid.uuid4().hex} if method != "GET" else {}
        if body is not None:
            headers["Content-Type"] = kind
        for attempt in range(self._retries + 1):
            last = attempt == self._retries
            try:
                response = self._http.request(method, path, content=body, headers=headers)
            except httpx.HTTPError as error:
                if last:
                    why = str(error) or type(error).__name__
                    raise ServiceError(f"{self._server} cannot be reached ({why}). Is the service running?") from None
                time.sleep(0.2 * 2**attempt)
                continue
            if response.status_code in _AGAIN and not last:
                time.sleep(min(float(response.headers.get("Retry-After", "1")), 10.0))
                continue
            break
        if response.is_success:
            return response
        try:
            problem = response.json()
            kind = str(problem["type"]).rpartition(":")[2]
            detail, request_id = str(problem["detail"]), str(problem["request_id"])
        except (ValueError, KeyError, TypeError):
            kind, detail, request_id = "unknown", f"{self._server} answered {response.status_code}.", ""
        raise ServiceError(detail, status=response.status_code, kind=kind, request_id=request_id)


def _path(id: str) -> str:
    return f"/v1/items/{quote(id, safe='')}"


def _bytes(picture: str | Path | bytes) -> bytes:
    if isinstance(picture, bytes):
        return picture
    try:
        return Path(picture).read_bytes()
    except OSError as error:
        raise UsageError(f'picture "{picture}" cannot be read ({error.strerror}).') from None


def _sendable(item: Mapping[str, Any]) -> dict[str, Any]:
    """An item with its pictures, given as paths or bytes, as text."""
    if "modalities" not in item:
        return dict(item)
    parts = {name: [_part(one) for one in observations] for name, observations in item["modalities"].items()}
    return {**item, "modalities": parts}


def _part(one: Any) -> Any:
    if isinstance(one, Path | bytes):
        return {"picture": base64.b64encode(_bytes(one)).decode()}
    return one if isinstance(one, str | Mapping) else {"features": [float(number) for number in one]}


def _as(kind: type[D], values: Mapping[str, Any]) -> D:
    """A dataclass from an answer, of which a newer service may know more, and an older one less."""
    return kind(**{field.name: values[field.name] for field in fields(kind) if field.name in values})  # type: ignore[arg-type]
