"""Bulk imports: the lines are on disk before they are acknowledged, and written some at a time."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

from pydantic import ValidationError

from amodal.errors import AmodalError
from amodal.service.generation import Generation
from amodal.service.house import Service
from amodal.service.items import checked, delete, write
from amodal.service.ledger import Progress
from amodal.service.messages import Gone, Item, Job
from amodal.service.messages import line as line_of
from amodal.service.problems import Problem, is_storage, problem_of

__all__ = ["Importer", "Lines", "receive"]

LINES = 64  #: written between two notes of progress: what a killed process does once more
PAUSE = (1.0, 60.0)  #: seconds between attempts while the index does not answer: at first, and at most
_PIECE = 2**20


@dataclass(frozen=True)
class Lines:
    """An import's body on disk, not yet accepted."""

    job: str
    path: Path
    count: int
    digest: bytes


async def receive(service: Service, body: AsyncIterator[bytes]) -> Lines:
    """Write a body to disk as it arrives.

    Raises:
        Problem: If it holds no line, or one that is larger than any other body may be.
    """
    job = uuid4().hex
    path = service.jobs / f"{job}.ndjson"
    part = path.with_suffix(".part")
    digest, count, rest, length = sha256(), 0, bytearray(), 0
    await asyncio.to_thread(path.parent.mkdir, parents=True, exist_ok=True)
    try:
        with part.open("wb") as file:
            async for piece in body:
                digest.update(piece)
                count += piece.count(b"\n")
                end = piece.rfind(b"\n") + 1
                length = len(piece) - end if end else length + len(piece)
                if length > service.settings.max_body:
                    raise Problem("too-large", f"line {count + 1} is longer than {service.settings.max_body} bytes.")
                rest += piece
                if len(rest) >= _PIECE:
                    await asyncio.to_thread(file.write, bytes(rest))
                    rest.clear()
            if length:
                count, rest = count + 1, rest + b"\n"
            await asyncio.to_thread(_finish, file, bytes(rest))
        if not count:
            raise Problem("invalid", "an import needs at least one line.")
        await asyncio.to_thread(part.rename, path)
    finally:
        part.unlink(missing_ok=True)
    return Lines(job, path, count, digest.digest())


def _finish(file: object, rest: bytes) -> None:
    file.write(rest)  # type: ignore[attr-defined]
    file.flush()  # type: ignore[attr-defined]
    os.fsync(file.fileno())  # type: ignore[attr-defined]


class Importer:
    """Writes accepted imports, the oldest first, between other writes.

    Args:
        service: Whose imports.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._bell = asyncio.Event()
        self._log = logging.getLogger("amodal.service")

    def ring(self) -> None:
        """There is something to do."""
        self._bell.set()

    async def run(self) -> None:
        """Write whatever is accepted, until cancelled."""
        pause = PAUSE[0]
        await asyncio.to_thread(self._sweep)
        while True:
            self._bell.clear()
            try:
                while await self._step():
                    pause = PAUSE[0]
                await self._bell.wait()
            except Exception as error:  # the index or the disk: later perhaps
                self._log.warning("import waits", extra={"facts": {"why": f"{type(error).__name__}: {error}"}})
                await asyncio.sleep(pause)
                pause = min(2 * pause, PAUSE[1])

    async def _step(self) -> bool:
        """Write the next lines of the oldest import; False if there is none."""
        ledger = self._service.ledger
        found = await asyncio.to_thread(ledger.next_job)
        if found is None:
            return False
        job, offset = found
        path = self._service.jobs / f"{job.job}.ndjson"

        def work(generation: Generation) -> None:
            progress, finished = _advance(generation, path, job, offset)
            ledger.advance(job.job, progress, finished=finished)
            if finished:
                path.unlink(missing_ok=True)

        # shielded, so that stopping the service lets the lines that are being written be noted
        await asyncio.shield(self._service.write(work, patient=True))
        return True

    def _sweep(self) -> None:
        """Remove bodies that were never accepted, or whose import was stopped."""
        for path in self._service.jobs.glob("*"):
            job = self._service.ledger.job(path.stem)
            if job is None or job.finished is not None:
                path.unlink(missing_ok=True)


def _advance(generation: Generation, path: Path, job: Job, offset: int) -> tuple[Progress, bool]:
    """Write some lines of an import; returns what became of them, and whether they were the last."""
    progress = Progress(offset)
    batch: list[tuple[int, Item | Gone]] = []
    with path.open("rb") as file:
        file.seek(offset)
        for number in range(job.done + 1, job.done + 1 + LINES):
            text = file.readline()
            if not text:
                break
            progress = replace(progress, offset=file.tell(), done=progress.done + 1)
            if not text.strip():
                continue
            try:
                line = line_of.validate_json(text)
                if isinstance(line, Item):
                    checked(generation, line)
            except Exception as error:
                progress = _failed(progress, number, error)
                continue
            if batch and (type(line) is not type(batch[0][1]) or _id(line) in {_id(one) for _, one in batch}):
                progress, batch = _apply(generation, batch, progress), []
            batch.append((number, line))
        finished = not file.read(1)
    return (_apply(generation, batch, progress) if batch else progress), finished


def _id(line: Item | Gone) -> str:
    return line.delete if isinstance(line, Gone) else line.id


def _apply(generation: Generation, batch: list[tuple[int, Item | Gone]], progress: Progress) -> Progress:
    """Write lines of one kind about different items; if they cannot be together, one by one."""
    items = [line for _, line in batch if isinstance(line, Item)]
    if not items:
        gone = delete(generation, [_id(line) for _, line in batch])
        return replace(progress, deleted=progress.deleted + gone)
    try:
        write(generation, items)
    except Exception as error:
        if len(batch) == 1 or is_storage(error):
            return _failed(progress, batch[0][0], error)
        for one in batch:
            progress = _apply(generation, [one], progress)
        return progress
    return replace(progress, written=progress.written + len(items))


def _failed(progress: Progress, number: int, error: Exception) -> Progress:
    """Note a line that cannot be written.

    Raises:
        Exception: The same, if the index or its storage failed, and not the line.
    """
    if is_storage(error):
        raise error
    if isinstance(error, ValidationError):
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        what = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    else:
        what = problem_of(error).detail
        if not isinstance(error, AmodalError):
            logging.getLogger("amodal.service").error("a line of an import failed", exc_info=error)
    failure = {"line": number, "what": what}
    return replace(progress, failed=progress.failed + 1, errors=(*progress.errors, failure))
