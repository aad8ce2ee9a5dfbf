"""Write the generated parts of the documentation: from cards, recipes and committed results, and from nothing else.

python tools/render.py            write README's tables, docs/methods.md and docs/recipes.md
python tools/render.py --check    change nothing; fail if any of them is stale
"""

from __future__ import annotations

import argparse
import csv
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from amodal.benchmark import recipes
from amodal.data.published import PUBLISHED
from amodal.methods import get, names
from amodal.methods.card import Card

ROOT = Path(__file__).parents[1]
HINT = "<!-- Written by tools/render.py; run `make docs` instead of editing. -->"
#: What the table of results shows: methods, their steps, directions.
SHOWN, WHOLE, WAYS = (
    ("label_regression", "cich", "cich_paper"), ("", "PSSC+CCA+SaCH"), ("image->text", "text->image"),
)  # fmt: skip


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; a bar inside a cell is escaped."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)


def needs(card: Card) -> str:
    """What a method needs, in a cell."""
    pairs = {"yes": "pairs", "helpful": "pairs help", "no": ""}[card.needs_pairs]
    return ", ".join(filter(None, ["labels" * card.needs_labels, pairs])) or "nothing"


def gaps(card: Card) -> str:
    """Which incompleteness a method takes as it is, in a cell."""
    return {"any": "any pattern", "none": "none"}[card.native]


def methods_table() -> str:
    """README: the methods, in a row each."""
    rows = []
    for card in (get(slug).card for slug in names()):
        paper = f"[{card.name}]({card.url})" if card.url else card.name
        kind = " (reconstruction)" * card.reconstruction
        fills = ", ".join(card.fills) or "-"
        rows.append(
            (f"`{card.slug}`", paper + kind, needs(card), gaps(card), fills, card.returns, _sentence(card.checked))
        )
    return table(("method", "paper", "needs", "gaps", "fills", "returns", "checked by"), rows)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".")


def quality_table() -> str:
    """README: CICH beside the control, from benchmarks/results/grid.csv."""
    with (ROOT / "benchmarks/results/grid.csv").open(newline="") as file:
        runs = [row for row in csv.DictReader(file) if row["protocol"] == "heldout" and row["bits"] in ("64", "real")]
    rows = []
    for data, setting in product(dict.fromkeys(run["data"] for run in runs), ("hard", "complete")):
        here = [run for run in runs if (run["data"], run["setting"]) == (data, setting)]
        # of the published form only the whole, none of the steps towards it
        found = {slug: [run for run in here if run["method"] == slug and run["step"] in WHOLE] for slug in SHOWN}
        gains = [float(run["mean"]) - float(run["control"]) for run in found["cich"]]
        cells = [_quality(found[slug]) for slug in SHOWN]
        chance = f"{float(here[0]['chance']):.3f}"
        difference = f"{np.mean(gains):+.3f} ± {np.std(gains, ddof=1):.3f}" if len(gains) > 1 else "-"
        rows.append((f"{data}, {setting}", *cells[:2], difference, cells[2], chance))
    head = (
        "data, setting",
        "control, real-valued",
        "CICH, 64 bit",
        "difference",
        "CICH as published, 64 bit",
        "chance",
    )
    return table(head, rows)


def _quality(runs: list[dict[str, str]]) -> str:
    if len(runs) < 2:
        return "-"
    ways = " / ".join(f"{np.mean([float(run[way]) for run in runs]):.3f}".lstrip("0") for way in WAYS)
    means = [float(run["mean"]) for run in runs]
    return f"{ways} = {np.mean(means):.3f} ± {np.std(means, ddof=1):.3f} ({len(runs)})"


def methods_page() -> str:
    """docs/methods.md: the card of every method, its arguments and its presets."""
    parts = [
        f"# Methods\n\n{HINT}\n\nEach method is one class, `amodal.methods.get(slug)`; `amodal list` prints this as a "
        "table. *Pairs: helpful* means that items with one modality are learned from too."
    ]
    for slug in names():
        method = get(slug)
        card = method.card.as_markdown().strip().replace("## Departures", "### Departures")
        presets = [f"- `{name}`: {_arguments(values)}" for name, values in method.presets.items()]
        title, rest = card.split("\n", 1)
        defaults = {name: one.default for name, one in inspect.signature(method).parameters.items()}
        parts += [f"#{title} (`{slug}`)\n{rest}", f"### Arguments\n\n{_arguments(defaults)}"]
        parts += ["### Presets\n\n" + "\n".join(presets)] if presets else []
    return "\n\n".join(parts) + "\n"


def _arguments(values: Mapping[str, Any]) -> str:
    return ", ".join(f"`{name}={value!r}`" for name, value in values.items())


def recipes_page() -> str:
    """docs/recipes.md: the recipes, the data they take, and how to write one."""
    shelf = [recipes.peek(name) for name in recipes.names()]
    found = table(
        ("recipe", "what it shows", "paper", "protocol", "data", "rows"),
        [
            (
                f"`{one.name}`",
                one.title,
                f"[{one.paper}]({one.url})",
                f"`{one.protocol}`",
                ", ".join(f"`{use.set}`" for use in one.data),
                ", ".join(entry.row for entry in one.methods),
            )
            for one in shelf
        ],
    )
    data = []
    for card in PUBLISHED.values():
        widths = ", ".join(f"{name} {width:,}" for name, width in card.widths.items())
        facts = f"{card.items:,} items, {card.classes} classes; {widths} wide; {card.megabytes():,.0f} MB in memory."
        forms = [" and ".join(f"`{card.describe(file)}`" for file in form) for form in card.forms]
        listed = "\n".join(f"- {form}" for form in [*forms, "`features.npz`: `image`, `text`, `label`"])
        data.append(f"### {card.name}: `{card.slug}`\n\n{card.summary} {facts} {card.source}. Any of:\n\n{listed}")
    text = (ROOT / "tools/recipes.md").read_text()
    return text.format(hint=HINT, recipes=found, data="\n\n".join(data))


def between(text: str, name: str, content: str) -> str:
    """A text with what stands between the markers of a name replaced."""
    start, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
    if text.count(start) != 1 or text.count(end) != 1:
        raise SystemExit(f"README.md needs the markers {start.strip()} and {end.strip()} once each.")
    before, rest = text.split(start)
    return f"{before}{start}{content}\n{end}{rest.split(end)[1]}"


def readme() -> str:
    """README.md with its tables as they should be."""
    text = (ROOT / "README.md").read_text()
    return between(between(text, "methods", methods_table()), "results", quality_table())


PAGES: dict[str, Callable[[], str]] = {
    "README.md": readme,
    "docs/methods.md": methods_page,
    "docs/recipes.md": recipes_page,
}


def main() -> None:
    """Write, or check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing, fail if a page is stale")
    check = parser.parse_args().check
    pages = {ROOT / name: render() for name, render in PAGES.items()}
    stale = [path for path, text in pages.items() if not path.exists() or path.read_text() != text]
    for path in stale:
        if not check:
            path.write_text(pages[path])
        print(f"{path.relative_to(ROOT)}: {'is stale; run make docs' if check else 'written'}")
    sys.exit(1 if check and stale else 0)


if __name__ == "__main__":
    main()
