"""What a method is, as typed data: README tables, docs and ``amodal list`` are rendered from it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

__all__ = ["Card"]


@dataclass(frozen=True, kw_only=True)
class Card:
    """The card of one method.

    Attributes:
        slug: Name in the registry, lower case.
        name: Name in the paper.
        summary: One sentence: what it does.
        paper: Authors, title, venue and year; "none" for controls.
        url: DOI or address of the paper.
        family: Room of the method; or "fusion", whose codes need every modality of an item, when learning and after.
        returns: Whether ``encode`` gives binary codes or unit-length embeddings; "scores" of a matcher, which has no
            vector of an item and scores pairs instead.
        takes: What an observation may be: "vectors" (d,), "parts" (length, d), or either.
        needs_labels: Whether it learns from labels.
        needs_pairs: "no", "helpful" or "yes": what it does with items that have several modalities.
        native: Incompleteness it takes as it is: "any" pattern, or "none" (complete items only).
        fills: Fill policies its ``fill`` argument accepts; empty if it has no such argument.
        imputes: Whether ``impute`` is offered.
        checked: How the implementation was checked.
        departures: Where it differs from the paper, and why.
        reference_code: Repository that was read (never copied), with its licence; or that there is none.
        reconstruction: True where no formulas are public and ours is a reading of an abstract.
    """

    slug: str
    name: str
    summary: str
    paper: str
    url: str = ""
    family: Literal["hashing", "shallow", "embedding", "matching", "fusion"]
    returns: Literal["codes", "embeddings", "scores"]
    takes: tuple[Literal["vectors", "parts"], ...] = ("vectors",)
    needs_labels: bool
    needs_pairs: Literal["no", "helpful", "yes"]
    native: Literal["any", "none"]
    fills: tuple[str, ...] = ()
    imputes: bool = False
    checked: str
    departures: tuple[str, ...] = ()
    reference_code: str
    reconstruction: bool = False

    def as_dict(self) -> dict[str, Any]:
        """The card as plain values, for JSON."""
        return asdict(self)

    def as_markdown(self) -> str:
        """The card as a page, as it is stored beside every saved model."""
        departures = "\n".join(f"- {line}" for line in self.departures) or "- none"
        kind = " (reconstruction)" if self.reconstruction else ""
        return (
            f"# {self.name}{kind}\n\n{self.summary}\n\n"
            f"- Paper: {' '.join(filter(None, (self.paper, self.url)))}\n- Returns: {self.returns}\n- Labels: "
            f"{'needed' if self.needs_labels else 'not used'}\n- Pairs: {self.needs_pairs}\n"
            f"- Incompleteness: {self.native}{', fill: ' + ', '.join(self.fills) if self.fills else ''}\n"
            f"- Reference code: {self.reference_code}\n- Checked: {self.checked}\n\n## Departures\n\n{departures}\n"
        )
