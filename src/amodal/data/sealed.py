"""Small files that say how something was drawn: JSON with a hash, so that a changed file is noticed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from amodal.data.files import replacing
from amodal.errors import DataError

__all__ = ["read_sealed", "sha256_of", "write_sealed"]


def sha256_of(content: Mapping[str, Any]) -> str:
    """Hash of what a file says, whatever the order of its keys."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def write_sealed(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write content with its hash as JSON that people can read; the file is there as a whole or not at all.

    Args:
        path: The file.
        content: What it says; ``format`` names the kind of file.
    """
    with replacing(path) as part:
        part.write_text(json.dumps({**content, "sha256": sha256_of(content)}, indent=1, ensure_ascii=False))


def read_sealed(path: str | Path, form: str, *, kind: str, writer: str) -> dict[str, Any]:
    """The content of such a file, after its hash was verified.

    Args:
        path: The file.
        form: What its ``format`` must be.
        kind: What such a file is called, for messages: "mask file".
        writer: What writes them: "Mask.save".

    Raises:
        DataError: If the file is missing, of another kind, or was changed after it was written.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from error
    except ValueError as error:
        raise DataError(f"{path}: is not a {kind}; {writer} writes them ({error}).") from error
    if not isinstance(content, dict) or content.get("format") != form:
        raise DataError(f'{path}: is not a {kind}; those begin with "format": "{form}".')
    if content.pop("sha256", None) != sha256_of(content):
        raise DataError(
            f"{path}: the hash does not fit the content, so the file was changed or damaged. Get a new copy."
        )
    return content
