"""Small files that say how something was drawn: JSON with a hash, so that a changed file is noticed."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

from amodal.data.files import replacing
from amodal.errors import DataError

__all__ = ["Sealed"]


class Sealed(ABC):
    """A record that is kept as such a file.

    Class attributes:
        form: Its ``format``, by which the file is known.
        kind: What such a file is called, for messages: "mask file".
    """

    form: ClassVar[str]
    kind: ClassVar[str]

    @property
    def sha256(self) -> str:
        """Hash of everything in the file, the same whatever the order of the items."""
        return _hash(self._sealed())

    def save(self, path: str | Path) -> None:
        """Write the record as JSON that people can read: how it was drawn, what it says of which items, and the hash.

        The file is there as a whole or not at all.
        """
        content = self._sealed()
        with replacing(path) as part:
            part.write_text(json.dumps({**content, "sha256": _hash(content)}, indent=1, ensure_ascii=False))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read such a file and verify its hash.

        Raises:
            DataError: If the file is missing, is another one, or was changed after it was saved.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror}).") from error
        except ValueError as error:
            raise DataError(f"{path}: is not a {cls.kind}; {cls.__name__}.save writes them ({error}).") from error
        if not isinstance(content, dict) or content.get("format") != cls.form:
            raise DataError(f'{path}: is not a {cls.kind}; those begin with "format": "{cls.form}".')
        if content.pop("sha256", None) != _hash(content):
            raise DataError(
                f"{path}: the hash does not fit the content, so the file was changed or damaged. Get a new copy."
            )
        return cls._restore(content)

    def _sealed(self) -> dict[str, Any]:
        return {"format": self.form, **self._content()}

    @abstractmethod
    def _content(self) -> dict[str, Any]:
        """What the file says, in JSON values."""

    @classmethod
    @abstractmethod
    def _restore(cls, content: Mapping[str, Any]) -> Self:
        """The inverse of ``_content``."""


def _hash(content: Mapping[str, Any]) -> str:
    """Hash of what a file says, whatever the order of its keys."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()
