"""Tables as Markdown, LaTeX and CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Iterable

from amodal.benchmark.report.material import Material
from amodal.benchmark.report.tables import Cell, Table
from amodal.benchmark.statistics import Difference
from amodal.benchmark.summary import Row

__all__ = ["to_csv", "to_latex", "to_markdown"]


def to_markdown(table: Table) -> str:
    """A table as GitHub shows it: headings of column groups are repeated in the columns, those of rows are rows."""
    heads = [""] + [title for title, width in table.spans for _ in range(width)]
    columns = [f"{head} {name}".strip() for head, name in zip(heads, table.columns, strict=True)]
    lines = [_line(map(_markdown, columns)), _line(["---", *["---:"] * (len(columns) - 1)])]
    for group in table.groups:
        if group.title:
            lines.append(_line([f"*{_markdown(group.title)}*", *[""] * (len(columns) - 1)]))
        lines += [_line(_marked_markdown(cell) for cell in row) for row in group.rows]
    return "\n".join([f"### {_markdown(table.title)}", "", *lines, "", _markdown(table.caption), ""])


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _marked_markdown(cell: Cell) -> str:
    text = _markdown(cell.text)
    return f"**{text}**" if cell.mark == "best" else f"<u>{text}</u>" if cell.mark == "second" else text


def _markdown(text: str) -> str:
    escaped = re.sub(r"([\\`*_|\[\]])", r"\\\1", " ".join(text.split()))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "−": "$-$", "–": "--", "≈": r"$\approx$",
    "Δ": r"$\Delta$", "<": "$<$", ">": "$>$", "·": r"$\cdot$", "→": r"$\to$",
}  # fmt: skip


def to_latex(table: Table) -> str:
    """A float for booktabs; wide ones shrink to the width of the page. Needs the packages booktabs and graphicx."""
    columns = len(table.columns)
    heads = "".join(rf" & \multicolumn{{{width}}}{{c}}{{{_latex(title)}}}" for title, width in table.spans)
    rules, start = [], 2
    for title, width in table.spans:
        rules += [rf"\cmidrule(lr){{{start}-{start + width - 1}}}"] if title else []
        start += width
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_latex(table.title)}. {_latex(table.caption)}}}",
        rf"\label{{tab:{re.sub(r'[^a-z0-9]+', '-', table.slug.lower())}}}",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{l{'r' * (columns - 1)}}}",
        r"\toprule",
        *([heads.removeprefix(" ") + r" \\", " ".join(rules)] if rules else []),
        " & ".join(map(_latex, table.columns)) + r" \\",
    ]
    for group in table.groups:
        lines.append(r"\midrule")
        if group.title:
            lines.append(rf"\multicolumn{{{columns}}}{{l}}{{\emph{{{_latex(group.title)}}}}} \\")
        lines += [" & ".join(map(_marked_latex, row)) + r" \\" for row in group.rows]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}}", r"\end{table}", ""])


def _marked_latex(cell: Cell) -> str:
    text = _latex(cell.text)
    return rf"\textbf{{{text}}}" if cell.mark == "best" else rf"\underline{{{text}}}" if cell.mark == "second" else text


def _latex(text: str) -> str:
    escaped = "".join(_LATEX.get(letter, letter) for letter in " ".join(text.split()))
    return escaped.replace("-$>$", r"$\to$")


def to_csv(material: Material) -> str:
    """One line per protocol, data, setting, method, length and direction, with every single value, for other tools."""
    place = ["protocol", "dataset", "setting", "bits", "method", "direction", "measure"]
    names = [*place, "mean", "sd", "seeds", "values", "chance", "control"]
    tests = ["effect", "low", "high", "p_seeds", "p_flips", "p_queries", "verdict"]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([*names, *(f"{to}.{test}" for to in ("best", "control") for test in tests)])
    for chapter in material.chapters:
        for block in chapter.blocks:
            for name, row in block.rows.items():
                writer.writerows(_lines(material, row, name, [block.to_best.get(name), block.to_control.get(name)]))
        for row in chapter.controls.values():
            writer.writerows(_lines(material, row, row.method, [None, None]))
    return file.getvalue()


def _lines(material: Material, row: Row, name: str, differences: list[Difference | None]) -> Iterable[list[object]]:
    for way, (mean, deviation) in row.cells.items():
        place = [row.protocol, row.dataset, row.setting, row.bits or "real", name, way, material.measure]
        values = " ".join(f"{seed}:{value!r}" for seed, value in row.values[way].items())
        floors = row.chance.values() if way == "mean" else [row.chance[way]] if way in row.chance else []
        controls = row.controls.get(way, {}).values()
        told = [part for one in differences for part in _told(one if way == "mean" else None)]
        yield [*place, mean, deviation, len(row.values[way]), values, _average(floors), _average(controls), *told]


def _told(one: Difference | None) -> list[object]:
    if one is None:
        return [""] * 7
    return [one.effect, *one.interval, one.p_seeds, one.p_flips, one.p_queries, one.verdict]


def _average(values: Collection[float]) -> object:
    return sum(values) / len(values) if values else ""
