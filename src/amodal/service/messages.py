"""What requests and answers look like; the OpenAPI schema is made from these."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeVar, dataclass_transform

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    WithJsonSchema,
)

__all__ = [
    "Added",
    "ByCursor",
    "ByFeatures",
    "ById",
    "ByPicture",
    "ByText",
    "ByVector",
    "Content",
    "Delete",
    "Deleted",
    "Explain",
    "Explained",
    "Failure",
    "Found",
    "Gone",
    "Imagined",
    "Impute",
    "Imputed",
    "IndexInfo",
    "Item",
    "Job",
    "Jobs",
    "MatchOut",
    "ModalityInfo",
    "ModelInfo",
    "NewItem",
    "NewItems",
    "Part",
    "Picture",
    "ProblemDocument",
    "Query",
    "SearchRequest",
    "Seen",
    "Shown",
    "Swapped",
    "Vector",
    "Well",
    "Wrong",
    "line",
    "search_request",
]

T = TypeVar("T")

MOST_TEXT = 20_000
MOST_NUMBERS = 65_536
MOST_PARTS = 64
LARGEST = 1e15  #: number in a vector; the square of a longest vector of such still fits float32


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)


@dataclass_transform()
def _answer(kind: type[T]) -> type[T]:
    """A message that is only ever sent, by ten in an answer: nothing of it needs to be checked."""
    kind.__pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[attr-defined]
    return dataclass(kind)


def _decode(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("this is not base64 as in RFC 4648, section 4") from None


def _encodable(value: str) -> str:
    # JSON can say half a surrogate pair, which no UTF-8 can
    value.encode()
    return value


Bytes = Annotated[
    bytes, BeforeValidator(_decode), WithJsonSchema({"type": "string", "contentEncoding": "base64", "minLength": 4})
]
Text = Annotated[str, StringConstraints(min_length=1, max_length=MOST_TEXT), AfterValidator(_encodable)]
Name = Annotated[
    str, StringConstraints(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]+$"), AfterValidator(_encodable)
]
Id = Annotated[
    str, StringConstraints(min_length=1, max_length=512, pattern=r"^[^\x00-\x1f\x7f]+$"), AfterValidator(_encodable)
]
Numbers = Annotated[
    list[Annotated[float, Field(ge=-LARGEST, le=LARGEST)]], Field(min_length=1, max_length=MOST_NUMBERS)
]
Hex = Annotated[str, StringConstraints(pattern=r"^([0-9a-fA-F]{2})+$", max_length=8192)]
K = Annotated[int, Field(ge=1, le=1000, strict=True)]
Scalar = (
    Annotated[str, StringConstraints(strict=True, max_length=MOST_TEXT), AfterValidator(_encodable)]
    | Annotated[int, Field(strict=True, ge=-(2**63), le=2**63 - 1)]
    | Annotated[float, Field(strict=True)]
    | Annotated[bool, Field(strict=True)]
    | None
)
Compared = Annotated[
    dict[Literal["==", "!=", "<", "<=", ">", ">="], Scalar]
    | dict[Literal["has"], Name | Annotated[list[Name], Field(min_length=1, max_length=100)]]
    | dict[Literal["in"], Annotated[list[Scalar], Field(max_length=10_000)]],
    Field(min_length=1),
]
Conditions = Annotated[
    dict[Name, Scalar | Annotated[list[Scalar], Field(max_length=10_000)] | Compared],
    Field(min_length=1, max_length=64),
]
Where = Annotated[str, StringConstraints(min_length=1, max_length=4000), AfterValidator(_encodable)] | Conditions


class Query(_Message):
    """What every search may say."""

    into: Name | None = None
    k: K = 10
    where: Where | None = None
    radius: Annotated[float, Field(ge=0)] | None = None
    min_score: Annotated[float, Field(ge=0, le=1)] | None = None
    rerank: bool = False


class ByText(Query):
    """Search by words."""

    by: Literal["text"]
    text: Text
    modality: Name | None = None


class ByPicture(Query):
    """Search by a picture."""

    by: Literal["picture"]
    picture: Bytes
    modality: Name | None = None


class ById(Query):
    """Search by an indexed item."""

    by: Literal["id"]
    id: Id


class ByVector(Query):
    """Search by a code, as hex, or an embedding."""

    by: Literal["vector"]
    vector: Hex | Numbers


class ByFeatures(Query):
    """Search by features as the model learned from."""

    by: Literal["features"]
    modality: Name
    features: Numbers


class ByCursor(_Message):
    """The next page of an earlier search."""

    by: Literal["cursor"]
    cursor: Annotated[str, StringConstraints(min_length=1, max_length=4_000_000)]
    k: K = 10


SearchRequest = Annotated[
    ByText | ByPicture | ById | ByVector | ByFeatures | ByCursor, Field(discriminator="by", title="SearchRequest")
]
search_request: TypeAdapter[Query | ByCursor] = TypeAdapter(SearchRequest)


@_answer
class Content:
    """What there is to show of an observation."""

    kind: Literal["picture", "text", "features"]
    text: str | None = None
    url: str | None = None


@_answer
class MatchOut:
    """An item that was found."""

    id: str
    distance: float
    score: float
    matched: float | None
    modality: str
    number: int
    content: Content
    labels: list[str]
    attributes: dict[str, Any]


@_answer
class Found:
    """A page of answers; ``notes`` are what to know of them, for instance that a long text was cut."""

    matches: list[MatchOut]
    next: str | None
    generation: str
    notes: list[str] = field(default_factory=list)


class Part(_Message):
    """An observation of an item."""

    modality: str
    number: int
    content: Content


class Imagined(_Message):
    """What an item lacks, suggested."""

    modality: str
    trust: float | None
    how: Literal["imagined", "nearest"]
    matches: list[MatchOut]


class Shown(_Message):
    """An indexed item."""

    id: str
    parts: list[Part]
    labels: list[str]
    attributes: dict[str, Any]
    lacks: list[str]
    imagined: Imagined | None


class Picture(_Message):
    """A picture file."""

    picture: Bytes


class Vector(_Message):
    """Features as the model learned from."""

    features: Numbers


Observation = Text | Picture | Vector


class NewItem(_Message):
    """An item to be written, or to be imagined a side of."""

    modalities: Annotated[
        dict[Name, Annotated[list[Observation], Field(min_length=1, max_length=MOST_PARTS)]],
        Field(min_length=1, max_length=64),
    ]
    labels: Annotated[list[Name], Field(max_length=1000)] = []
    attributes: Annotated[dict[Name, Scalar], Field(max_length=256)] = {}


class Item(NewItem):
    """An item to be written, with its id."""

    id: Id


class NewItems(_Message):
    """Several items to be written."""

    mode: Literal["add", "upsert"] = "upsert"
    items: Annotated[list[Item], Field(min_length=1, max_length=256)]


class Added(_Message):
    """What was written."""

    items: int
    entries: int


class Delete(_Message):
    """Items to be deleted."""

    ids: Annotated[list[Id], Field(min_length=1, max_length=10_000)]


class Deleted(_Message):
    """How many items were removed."""

    items: int


class Gone(_Message):
    """A line of an import that deletes."""

    delete: Id


line: TypeAdapter[Item | Gone] = TypeAdapter(Item | Gone)


class Failure(_Message):
    """A line of an import that could not be written."""

    line: int
    what: str


class Job(_Message):
    """An import and how far it is."""

    job: str
    state: Literal["waiting", "running", "done", "cancelled"]
    lines: int
    done: int
    written: int
    deleted: int
    failed: int
    errors: list[Failure]
    created: str
    finished: str | None


class Jobs(_Message):
    """The latest imports, the newest first."""

    imports: list[Job]


class Impute(_Message):
    """Imagine a side of an item."""

    modality: Name
    item: NewItem
    k: Annotated[int, Field(ge=1, le=100, strict=True)] = 3


class Imputed(_Message):
    """An imagined side, and real items like it."""

    modality: str
    trust: float
    features: list[float]
    matches: list[MatchOut]


class Explain(_Message):
    """Why an item matched."""

    query: SearchRequest
    id: Id


class Seen(_Message):
    """What a word sees in a picture."""

    word: str
    similarity: float
    effect: float
    attention: list[float]


class Explained(_Message):
    """Why an item matched: of each word how much it looks at each region, and what that is worth."""

    item: str
    score: float
    effect: float
    regions: str
    words_of: str
    boxes: list[tuple[float, float, float, float]]
    words: list[Seen]
    notes: list[str] = []


class ModalityInfo(_Message):
    """What a modality of the model takes."""

    kind: Literal["picture", "text", "features"]
    width: int


class ModelInfo(_Message):
    """The model."""

    method: str
    name: str
    summary: str
    fingerprint: str
    imputes: bool
    explains: bool
    modalities: dict[str, ModalityInfo]
    classes: list[str]
    generation: str
    loaded: str


class IndexInfo(_Message):
    """The index."""

    kind: Literal["binary", "float"]
    bits: int | None
    dim: int | None
    entries: int
    exact: bool
    writable: bool
    attributes: dict[str, str]


class Swapped(_Message):
    """What answers now."""

    swapped: bool
    generation: str


class Well(_Message):
    """That all is well."""

    status: Literal["ok"]


class Wrong(_Message):
    """Where a body is wrong, and how."""

    where: str
    what: str


class ProblemDocument(_Message):
    """A problem as RFC 9457 has it."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str
    errors: list[Wrong] = []
