"""Results told as a paper would print them: tables in four formats, and one page with everything."""

from __future__ import annotations

from pathlib import Path

from amodal.data import Dataset

__all__ = ["write_report"]


def write_report(folder: Path, out: Path, *, measure: str = "map", data: Dataset | None = None) -> list[Path]:
    """Write ``tables.md``, ``tables.csv``, ``tables.tex`` and ``index.html``; what was there under these names goes.

    Args:
        folder: With ``results.jsonl``.
        out: Where to write.
        measure: What the tables show; higher must be better.
        data: The items of one of the data sets, for classes, pictures and texts, which records do not hold.

    Returns:
        The files.

    Raises:
        DataError: If there is no finished or failed run, or a record is of another schema.
        UsageError: If the measure is unknown, or lower is better.
        MissingExtra: If matplotlib is not installed.
    """
    from amodal.benchmark.report.conclusions import tables_of
    from amodal.benchmark.report.formats import to_csv, to_latex, to_markdown
    from amodal.benchmark.report.material import read_material
    from amodal.benchmark.report.page import render
    from amodal.data.files import replacing

    material = read_material(folder, measure=measure, data=data)
    tables = tables_of(material)
    every = [table for _, own in tables for table in own]
    contents = {
        "tables.md": "\n".join(map(to_markdown, every)),
        "tables.csv": to_csv(material),
        "tables.tex": "\n".join(map(to_latex, every)),
        "index.html": render(material, tables),
    }
    for name, content in contents.items():
        with replacing(out / name) as part:
            part.write_text(content, encoding="utf-8")
    return [out / name for name in contents]
