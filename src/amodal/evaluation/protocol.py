"""Who queries whom: named, hashed, and written into every result."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Literal

from amodal.errors import UsageError, nearest

__all__ = ["PROTOCOLS", "PairProtocol", "Protocol", "get"]


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """A rule of evaluation. Results of different protocols never share a table.

    Attributes:
        name: Its name.
        summary: One sentence for tables' captions.
        learns: Rows learned from: "all" training rows whatever they have, or only the "paired" ones.
        sample: Most rows learned from; None for all.
        database: "test" items; "training" rows as far as their observations were kept; "paired" training rows; or
            "rest": every row that is no query, complete.
        unanswerable: What a query without relevant item counts: "skip" or "zero".
        ties: Tie rule: "average", or "index" to stand beside tables made with a stable sort.
        db_codes: "hashed": every database code is the hash function's; "learned": codes fitted to training rows.
        pairs: Whether the partner of a query is in its database, so that pair recall has a meaning.
        comparable: Which published tables it may stand beside.
    """

    name: str
    summary: str
    learns: Literal["all", "paired"] = "all"
    sample: int | None = None
    database: Literal["test", "training", "paired", "rest"]
    unanswerable: Literal["skip", "zero"]
    ties: Literal["average", "index"] = "average"
    db_codes: Literal["hashed", "learned"] = "hashed"
    pairs: bool
    comparable: str

    @property
    def sha256(self) -> str:
        """Hash of every field."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class PairProtocol(Protocol):
    """A rule of pair retrieval: all observations of the test items ask, and only an item's own are relevant.

    Attributes:
        fold: Items in a fold; consecutive ones, in the order of the data, are searched by themselves, and every
            measure is the mean over the folds. None for all at once.
        database: Test items.
        unanswerable: What a query whose item lacks the other modality counts: nothing, it is skipped.
        pairs: Always; they are what is measured.
    """

    fold: int | None = None
    database: Literal["test", "training", "paired", "rest"] = "test"
    unanswerable: Literal["skip", "zero"] = "skip"
    pairs: bool = True


PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            name="heldout",
            summary="Learned from training items with gaps; queries and database are the held-out test items, each "
            "encoded from its own modality alone.",
            database="test",
            unanswerable="skip",
            pairs=True,
            comparable="no published table; the honest one",
        ),
        Protocol(
            name="cich-extend",
            summary="Learned from incomplete training items, which are the database too, as far as they have the "
            "modality; queries are complete test items.",
            database="training",
            unanswerable="zero",
            pairs=False,
            comparable="the tables of CICH (first partition)",
        ),
        Protocol(
            name="cich-enhance",
            summary="Learned from incomplete training items; the database are the paired ones among them; queries are "
            "complete test items.",
            database="paired",
            unanswerable="zero",
            pairs=False,
            comparable="CICH's second partition",
        ),
        Protocol(
            name="cich-discard",
            summary="Learned from the paired training items alone, which are the database too; queries are complete "
            "test items.",
            learns="paired",
            database="paired",
            unanswerable="zero",
            pairs=False,
            comparable="CICH's third partition",
        ),
        Protocol(
            name="dcmh",
            summary="Learned from at most 10,000 training items; the database are all items that are no queries, "
            "complete.",
            sample=10_000,
            database="rest",
            unanswerable="zero",
            pairs=False,
            comparable="most hashing papers",
        ),
        PairProtocol(
            name="flickr30k",
            summary="Every test picture looks for its captions, and every test caption for its picture, among all of "
            "the test items.",
            comparable="tables of image-text matching, on the data and split that they name",
        ),
        PairProtocol(
            name="coco-1k",
            summary="As flickr30k, in folds of 1,000 test items in the order of the data; means over the folds.",
            fold=1000,
            comparable="tables of image-text matching on MS COCO, 5 folds of 1,000 pictures",
        ),
        PairProtocol(
            name="coco-5k",
            summary="As flickr30k; of MS COCO that is all 5,000 test pictures at once.",
            comparable="tables of image-text matching on MS COCO, 5,000 pictures",
        ),
    )
}


def get(name: str) -> Protocol:
    """A protocol by name.

    Raises:
        UsageError: Naming the nearest.
    """
    if name not in PROTOCOLS:
        raise UsageError(nearest(name, PROTOCOLS, what="protocol"))
    return PROTOCOLS[name]
