"""What a reader must know first: what was run, who is ahead and by more than luck, and what to distrust."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from amodal.benchmark.report.material import Block, Chapter, Material
from amodal.benchmark.report.words import listing, number, p_value, plural, plus_minus, signed
from amodal.evaluation import CONTROL

__all__ = ["Finding", "cautions", "lead", "winners"]

CLAIM = 6  #: seeds: the exact test over fewer cannot fall below .05


@dataclass(frozen=True)
class Finding:
    """One sentence with its headword.

    Attributes:
        head: What it is about.
        text: What is to be said.
        weight: ``good`` and ``bad`` get a colour.
    """

    head: str
    text: str
    weight: str = ""


def lead(material: Material) -> str:
    """What was run, in a sentence or two."""
    records = list(material.records.values())
    if not records:
        return f"No run has finished; {plural(len(material.failures), 'run')} failed."
    bits = sorted({line["bits"] for line in records if line["bits"]})
    methods, settings = ({line[side] for line in records} for side in ("method", "setting"))
    named = plural(len(methods - {CONTROL}), "method") + (" and the control" if CONTROL in methods else "")
    parts = (
        named,
        f"{plural(len({line['dataset'] for line in records}), 'data set')} "
        f"({listing(dict.fromkeys(line['dataset'] for line in records))})",
        f"missing setting{'s' if len(settings) > 1 else ''} {listing(sorted(settings))}",
        *([f"{listing(map(str, bits))} bit"] if bits else []),
        f"{plural(len({line['seed'] for line in records}), 'seed')}",
    )
    hours = sum(line["seconds"] for line in records) / 3600
    first, last = min(line["date"] for line in records)[:10], max(line["date"] for line in records)[:10]
    when = first if first == last else f"{first} to {last}"
    names = dict.fromkeys(line["protocol"] for line in records)
    spent = f"{hours:.1f} hours" if hours >= 1 else f"{60 * hours:.0f} minutes" if hours > 1 / 60 else "under a minute"
    return (
        f"{'; '.join(parts)}: {plural(len(records), 'run')} in {spent}, {when}, "
        f"protocol{'s' if len(names) > 1 else ''} {listing(names)}."
    )


def winners(material: Material, chapter: Chapter) -> list[Finding]:
    """Who is ahead on each data set, at the setting and length shown, and whether the seeds bear it out."""
    return [_winner(material, block) for block in chapter.shown]


def _winner(material: Material, block: Block) -> Finding:
    score = plus_minus(*block.rows[block.best].cells["mean"], material.percent)
    sentences = [f"{block.best} is first with {score}"]
    if not block.to_best:
        return Finding(block.dataset, f"{sentences[0]}, without a rival. {_against_control(material, block)}".strip())
    second = next(iter(block.to_best))
    gap = block.to_best[second]
    ahead = signed(-gap.effect, material.percent)
    if gap.p_seeds is None:
        return Finding(
            block.dataset,
            f"{sentences[0]}, {ahead} on {second}; not tested: {gap.untested[0]}. {_against_control(material, block)}",
        )
    noise = [name for name, one in block.to_best.items() if one.verdict == "within noise"]
    if noise:
        some = listing(noise[:4]) + (f" and {len(noise) - 4} more" if len(noise) > 4 else "")
        sentences[0] += f", but within noise of {some} ({ahead} on {second}, p {p_value(gap.p_seeds)})."
    else:
        sentences[0] += f", beyond noise: {ahead} on {second}, p {p_value(gap.p_seeds)}."
    sentences.append(_against_control(material, block))
    return Finding(block.dataset, " ".join(sentences), "" if noise else "good")


def _against_control(material: Material, block: Block) -> str:
    one = block.to_control.get(block.best)
    if one is None:
        return ""
    gap = signed(one.effect, material.percent)
    words = {
        "above": f"Against the control {gap}, beyond noise.",
        "below": f"The control is still better: {gap}, beyond noise.",
        "within noise": f"Against the control {gap}: within noise.",
    }
    return words.get(one.verdict, f"Against the control {gap}, not tested.")


def cautions(material: Material) -> list[Finding]:
    """What to distrust, worst first."""
    return [*_of_runs(material), *(one for chapter in material.chapters for one in _of_chapter(material, chapter))]


def _of_runs(material: Material) -> Iterator[Finding]:
    if material.failures:
        slugs = listing(dict.fromkeys(str(line.get("method", "?")) for line in material.failures))
        yield Finding("Failed", f"{plural(len(material.failures), 'run')} of {slugs}; see the end of the page.", "bad")
    records = list(material.records.values())
    sources = {line["environment"]["source"] for line in records}
    if len(sources) > 1:
        yield Finding("Versions", f"The runs were made by {len(sources)} versions of the source.", "bad")
    warned = [line for line in records if line["warnings"]]
    if warned:
        slugs = listing(dict.fromkeys(line["method"] for line in warned))
        yield Finding("Warnings", f"{plural(len(warned), 'run')} warned ({slugs}); see the end of the page.")
    wide = max((_luck_of_ties(line) for line in records), default=0.0)
    if wide > 0.01:
        yield Finding("Ties", f"The order of ties alone could move mAP by up to {number(wide)}; ours averages over it.")


def _luck_of_ties(line: dict[str, dict[str, dict[str, float | None]]]) -> float:
    best, worst = line["metrics"].get("map.optimistic", {}), line["metrics"].get("map.pessimistic", {})
    return max(((best[way] or 0) - (worst.get(way) or 0) for way in best), default=0.0)


def _of_chapter(material: Material, chapter: Chapter) -> Iterator[Finding]:
    head = f"{chapter.protocol}, " if len(material.chapters) > 1 else ""
    above: dict[str, list[str]] = {}
    for block in chapter.shown:
        names = [name for name, one in block.to_control.items() if one.effect < 0 and one.verdict != "within noise"]
        if names:
            which = "all methods" if len(names) == len(block.rows) else listing(names)
            above.setdefault(which, []).append(block.dataset)
    for which, places in above.items():
        text = f"The control, real-valued and without any hashing, is above {which} on {listing(places)}."
        yield Finding(f"{head}control", text, "bad")
    floors = [(block.dataset, next(iter(block.rows.values())).chance) for block in chapter.shown]
    told = [f"{d} {number(sum(f.values()) / len(f), material.percent)}" for d, f in floors if f]
    if told:
        yield Finding(f"{head}chance", f"A random ranking scores {listing(told)}.")
    seeds = {row.seeds for block in chapter.shown for row in block.rows.values()}
    if seeds and min(seeds) < CLAIM:
        yield Finding(
            f"{head}seeds",
            f"{plural(min(seeds), 'seed')}: {'enough' if min(seeds) > 2 else 'too few even'} for a table, and not "
            f"enough for a claim, which takes {CLAIM}.",
        )
    bare = [block for block in chapter.shown for row in block.rows.values() if not row.controls]
    if bare:
        yield Finding(f"{head}control", f"Some runs on {listing({b.dataset: 0 for b in bare})} have no control.", "bad")
