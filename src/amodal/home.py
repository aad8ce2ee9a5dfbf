"""A saved retriever is a folder: encoders' names, model and index, and what re-ranks if there is such."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amodal import index as indexes
from amodal.encoders.saving import save_encoders
from amodal.errors import DataError, UsageError
from amodal.index.copying import copy
from amodal.methods import save as save_method

if TYPE_CHECKING:
    from amodal.retriever import Retriever

__all__ = ["ENCODERS", "RERANKER", "facts_of", "require_room", "save"]

FORMAT = 2  #: 1 had all labels of an item in one text
FACTS = "retriever.json"
ENCODERS = "encoders"  #: folder of the weights of encoders that learned with the method
RERANKER = "reranker"


def save(target: Path, retriever: Retriever, *, force: bool) -> Path:
    """Write a retriever; the folder appears complete or not at all.

    Args:
        target: Where to.
        retriever: With an index.
        force: Replace a retriever that is there already.

    Raises:
        UsageError: If the folder exists and ``force`` is not set, or is no retriever.
        DataError: If it cannot be written.
    """
    require_room(target, force=force)
    source = retriever.index_
    assert source is not None  # noqa: S101 - the retriever has looked
    draft, old = (target.with_name(f".{target.name}.{what}") for what in ("part", "old"))
    shutil.rmtree(draft, ignore_errors=True)
    try:
        draft.mkdir(parents=True)
        save_method(retriever.method, draft / "method")
        encoders = save_encoders(retriever.encoders_, draft / ENCODERS)
        if retriever.reranker is not None:
            retriever.reranker.save(draft / RERANKER)
        facts = {"format": FORMAT, "encoders": encoders, "rerank": retriever.reranker is not None}
        (draft / FACTS).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        with indexes.open(str(draft / "index"), create=source.spec) as target_index:
            copy(source, target_index)
        shutil.rmtree(old, ignore_errors=True)
        if target.exists():
            target.rename(old)
        draft.rename(target)
    except OSError as error:
        raise DataError(f"{target} cannot be written ({error}).") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)
    return target


def require_room(folder: Path, *, force: bool) -> None:
    """Refuse to save a retriever over something that is there already.

    Args:
        folder: Where it shall be saved.
        force: A retriever may be replaced; never anything else.

    Raises:
        UsageError: If it may not.
    """
    if not folder.exists():
        return
    if not force:
        raise UsageError(f"{folder} exists already. Choose another place, or pass force=True (--force).")
    if not (folder / FACTS).is_file():
        raise UsageError(f"{folder} exists and is no saved retriever, so it is not replaced. Choose another place.")


def facts_of(folder: Path) -> dict[str, Any]:
    """What a saved retriever says about itself.

    Raises:
        DataError: If the folder is no retriever, is damaged, or of another format.
    """
    try:
        facts: dict[str, Any] = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        version, _ = facts["format"], facts["encoders"]
    except FileNotFoundError:
        raise DataError(f"{folder} is no saved retriever: there is no {folder / FACTS}.") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder} is damaged: {FACTS} cannot be read ({error}). Restore it, or fit again.") from error
    if version != FORMAT:
        raise DataError(f"{folder} has format {version}; this version reads format {FORMAT}. Fit again.")
    return facts
