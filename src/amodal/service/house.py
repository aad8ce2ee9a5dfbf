"""The service without HTTP: the generation that answers, who reads, who writes, and what is swapped."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from amodal.errors import UsageError
from amodal.service.cursors import Cursors
from amodal.service.generation import Generation, place_of
from amodal.service.keys import KeyRing
from amodal.service.ledger import Ledger
from amodal.service.problems import RETRY, Problem
from amodal.service.settings import Settings

__all__ = ["Service"]

T = TypeVar("T")
Work = Callable[[Generation], T]


class Service:
    """What all requests share.

    Searches run side by side in a few threads, writes one after another in a thread of their own. Each piece of work
    holds the generation it began with, which is closed only when nothing holds it any more.

    Args:
        settings: Where everything is.

    Attributes:
        settings: The same.
        keys: Who may ask.
        ledger: What survives a restart.
        cursors: Where searches go on.

    Raises:
        AmodalError: If model, index or folder cannot be opened, or all the world could ask without a key.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.keys = KeyRing(settings.state)
        if not settings.loopback and not self.keys.needed:
            raise UsageError(
                f"{settings.host} can be reached by others, and there is no key yet. Make one: "
                f"amodal keys add --state {settings.state} --name NAME --scope read."
            )
        self.ledger = Ledger(settings.state)
        try:
            self._current = self._open()
        except BaseException:
            self.ledger.close()
            raise
        self.cursors = Cursors(self.ledger.secret("cursors"))
        self._mutex = threading.Lock()
        self._held: dict[Generation, int] = {}
        self._readers = ThreadPoolExecutor(settings.readers, "read")
        self._writer = ThreadPoolExecutor(1, "write")
        self._swapping = asyncio.Lock()
        self._waiting = 0
        self.stopping = False

    def _open(self) -> Generation:
        settings = self.settings
        generation = Generation(settings.model, settings.index, readonly=settings.readonly)
        generation.warm()
        return generation

    @property
    def generation(self) -> Generation:
        """What answers now."""
        return self._current

    @property
    def jobs(self) -> Path:
        """Where the lines of imports lie."""
        return self.settings.state / "imports"

    async def read(self, work: Work[T]) -> T:
        """Do something with the current generation, beside others.

        Raises:
            Problem: If too many wait already, or it takes too long.
        """
        if self._waiting >= self.settings.readers * (1 + self.settings.waiting):
            raise Problem("unavailable", "too many requests wait already; try again.", headers=RETRY)
        return await self._do(self._readers, work, "the answer took")

    async def write(self, work: Work[T], *, patient: bool = False) -> T:
        """Change something in the current generation, after all writes before.

        Args:
            work: What to do.
            patient: Wait as long as it takes.

        Raises:
            Problem: If the service is read only, or it takes too long; what has begun is then still done.
        """
        if self.settings.readonly:
            raise Problem("not-supported", "this service was started to read only.")
        return await self._do(
            self._writer, work, "the write has not ended, and may yet be done; it took", forever=patient
        )

    async def _do(self, pool: ThreadPoolExecutor, work: Work[T], what: str, *, forever: bool = False) -> T:
        if self.stopping:
            raise Problem("unavailable", "the service is stopping.", headers=RETRY)
        self._waiting += 1
        try:
            future: Future[T] = pool.submit(self._holding, work)
            async with asyncio.timeout(None if forever else self.settings.timeout):
                return await asyncio.wrap_future(future)
        except TimeoutError:
            raise Problem("timeout", f"{what} longer than {self.settings.timeout:g} seconds.") from None
        finally:
            self._waiting -= 1

    def _holding(self, work: Work[T]) -> T:
        with self._mutex:
            generation = self._current
            self._held[generation] = self._held.get(generation, 0) + 1
        try:
            return work(generation)
        finally:
            self._release(generation)

    def _release(self, generation: Generation) -> None:
        with self._mutex:
            self._held[generation] -= 1
            unused = generation is not self._current and not self._held[generation]
            if unused:
                del self._held[generation]
        if unused:
            generation.close()

    async def swap(self) -> tuple[bool, Generation]:
        """Open the model and the index that lie at their paths now, and let them answer.

        Returns:
            Whether there was anything new, and what answers now.

        Raises:
            AmodalError: If they cannot be opened or do not belong together; what answered goes on.
        """
        async with self._swapping:
            if place_of(self.settings.model, self.settings.index) == self._current.place:
                return False, self._current
            fresh = await asyncio.to_thread(self._open)
            with self._mutex:
                old, self._current = self._current, fresh
                unused = not self._held.get(old)
                if unused:
                    self._held.pop(old, None)
            if unused:
                old.close()
            return True, fresh

    def close(self) -> None:
        """End what runs, and release everything."""
        self.stopping = True
        self._readers.shutdown()
        self._writer.shutdown()
        self._current.close()
        self.ledger.close()
