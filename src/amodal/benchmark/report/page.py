"""The page: what was found, the tables, and the figures, in one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from amodal.benchmark.report.codes import balance, distances
from amodal.benchmark.report.conclusions import ranks
from amodal.benchmark.report.curves import ndcg, precision_recall
from amodal.benchmark.report.drawing import MARKERS, SERIES, Panel
from amodal.benchmark.report.examples import searches
from amodal.benchmark.report.findings import Finding, cautions, lead, winners
from amodal.benchmark.report.material import Chapter, Material
from amodal.benchmark.report.projection import projections
from amodal.benchmark.report.ranking import critical_differences
from amodal.benchmark.report.scores import glance
from amodal.benchmark.report.sweeps import by_bits, by_missing_rate
from amodal.benchmark.report.tables import Table
from amodal.benchmark.report.training import training_curves
from amodal.evaluation.protocol import PROTOCOLS
from amodal.sheet import Search, templates

__all__ = ["render"]

_SIGNS = dict(zip(MARKERS, "●■▲◆▼✚✖★", strict=True))


@dataclass(frozen=True)
class Figure:
    """Pictures that belong together.

    Attributes:
        title: Heading.
        note: How to read them.
        panels: The pictures.
        key: Whether a key of the methods is needed.
    """

    title: str
    note: str
    panels: Sequence[Panel]
    key: bool = False


@dataclass(frozen=True)
class Part:
    """What the page shows of one protocol.

    Attributes:
        chapter: The results.
        summary: What the protocol is.
        glance: Pictures for the head of the page.
        winners: Who is ahead.
        tables: All of them, the tests last.
        figures: All that there is something to draw for.
        key: Name, colour and sign of the methods with a colour of their own, and how many others there are.
        searches: Examples under their headings.
    """

    chapter: Chapter
    summary: str
    glance: Sequence[Panel]
    winners: Sequence[Finding]
    tables: Sequence[Table]
    figures: Sequence[Figure]
    key: Sequence[tuple[str, str, str]]
    others: int
    searches: Sequence[tuple[str, Sequence[Search]]] = field(default_factory=list)


def render(material: Material, tables: Sequence[tuple[Chapter, Sequence[Table]]]) -> str:
    """The page as text.

    Args:
        material: What was read.
        tables: What was made of it.

    Raises:
        MissingExtra: If matplotlib is not installed.
    """
    return (
        templates()
        .get_template("report.html")
        .render(
            title=f"Benchmark {material.folder.resolve().name}",
            lead=lead(material),
            cautions=cautions(material),
            parts=[_part(material, chapter, own) for chapter, own in tables],
            failures=material.failures,
            warned=_warnings(material),
            facts=_facts(material),
        )
    )


def _part(material: Material, chapter: Chapter, tables: Sequence[Table]) -> Part:
    colours = enumerate(chapter.methods[: len(SERIES)])
    protocol = PROTOCOLS.get(chapter.protocol.split(" ")[0])
    return Part(
        chapter=chapter,
        summary=protocol.summary if protocol else "",
        glance=glance(material, chapter),
        winners=winners(material, chapter),
        tables=tables,
        figures=[figure for figure in _figures(material, chapter) if figure.panels],
        key=[(name, f"--series-{k}", _SIGNS[MARKERS[k]]) for k, name in colours],
        others=max(0, len(chapter.methods) - len(SERIES)),
        searches=searches(material, chapter),
    )


def _figures(material: Material, chapter: Chapter) -> list[Figure]:
    kind = "real-valued" if chapter.bits is None else f"{chapter.bits} bit"
    place = f"{chapter.setting}, {kind}"
    band = "Band: ± one sd over seeds."
    order = ranks(chapter)
    coloured = "labels name the largest classes" if material.data is not None else "give --data for colours by class"
    return [
        Figure(
            "Who is told apart",
            f"Mean ranks over data sets and directions, {place}; 1 is best. A bar joins methods that Nemenyi's test "
            "does not tell apart at 5 %.",
            [critical_differences(chapter, order)] if order else [],
        ),
        Figure(
            "Precision and recall",
            f"Micro-averaged over queries, a point per Hamming radius; {place}. {band}",
            precision_recall(material, chapter),
            key=True,
        ),
        Figure("NDCG of the first places", f"Binary gain; {place}. {band}", ndcg(material, chapter)),
        Figure(
            "By what is missing",
            f"{material.label}, mean of directions, {kind}, against the share of training items that lack a "
            f"modality. {band}",
            by_missing_rate(material, chapter),
        ),
        Figure(
            "By length of codes",
            f"{material.label}, mean of directions, {chapter.setting}. {band}",
            by_bits(material, chapter),
        ),
        Figure("Training", f"Losses by epoch; {place}. Band: all seeds.", training_curves(material, chapter)),
        Figure(
            "Balance of bits",
            f"Share of ones of every bit over the queries, {place}, first seed. A bit at 0 or 1 says nothing.",
            balance(material, chapter),
        ),
        Figure(
            "How far relevant items are",
            f"Share of pairs at each distance, {place}, mean of seeds; solid, then dashed: the directions in the order "
            "of the tables. The less they overlap, the better.",
            distances(material, chapter),
        ),
        Figure(
            "Codes in the plane",
            f"t-SNE of queries, {place}, first seed; {coloured}. Neighbours mean something, distances between clusters "
            "do not.",
            projections(material, chapter),
        ),
    ]


def _warnings(material: Material) -> list[tuple[str, str, int]]:
    """Method, sentence, and how many runs said so."""
    counts: dict[tuple[str, str], int] = {}
    for line in material.records.values():
        for sentence in line["warnings"]:
            counts[line["method"], sentence] = counts.get((line["method"], sentence), 0) + 1
    return [(*pair, count) for pair, count in counts.items()]


def _facts(material: Material) -> list[tuple[str, str]]:
    """Where the figures come from."""
    lines = list(material.records.values())
    environments = [line["environment"] for line in lines]
    versions = dict.fromkeys(
        f"amodal {one['amodal']} (source {one['source']}), Python {one['python']}, "
        + ", ".join(f"{name} {version}" for name, version in one["packages"].items())
        for one in environments
    )
    machines = dict.fromkeys(f"{one['processor']}, {one['cores']} cores" for one in environments)
    prints = dict.fromkeys(f"{line['dataset']} {line['hashes']['data'][:12]}" for line in lines)
    protocols = dict.fromkeys(f"{line['protocol']} {line['hashes']['protocol'][:12]}" for line in lines)
    facts = {"Software": versions, "Machine": machines, "Data": prints, "Protocols": protocols}
    return [(head, "; ".join(texts)) for head, texts in facts.items() if texts]
