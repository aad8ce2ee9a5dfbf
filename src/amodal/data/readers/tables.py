"""Tables from Parquet, CSV, TSV and JSON lines, as Arrow columns."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from amodal.data.readers.base import Problems
from amodal.errors import DataError

__all__ = ["Table", "is_table", "read_table"]

_DELIMITED = {".csv": ",", ".tsv": "\t"}
_JSON = (".jsonl", ".ndjson")
_PARQUET = b"PAR1"


@dataclass(frozen=True)
class Table:
    """The columns of a table.

    Attributes:
        columns: By name, all of one length.
        place: How to name a row to the user: by line where the file has lines.
        typed: Whether the format says what is a number; in CSV everything is text.
    """

    columns: dict[str, pa.Array]
    place: Callable[[int], str]
    typed: bool = True


def is_table(path: Path) -> bool:
    """Whether a file looks like a table."""
    if path.is_dir():
        return False
    with path.open("rb") as file:
        return file.read(4) == _PARQUET or path.suffix.lower() in (*_DELIMITED, *_JSON, ".parquet")


def read_table(path: Path, problems: Problems) -> Table:
    """Read a table of any of the formats.

    Args:
        path: The file.
        problems: Where to report rows that are no rows.

    Raises:
        DataError: If the file cannot be read as what it seems to be.
    """
    try:
        if path.suffix.lower() in _DELIMITED:
            return _from_csv(path, problems)
        if path.suffix.lower() in _JSON:
            return _from_json(path, problems)
        table = parquet.read_table(path)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 text ({error}). Save it as UTF-8.") from error
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: is truncated, damaged or no Parquet file ({error}). Write it again.") from error
    columns = {name: _plain(table.column(name).combine_chunks()) for name in table.column_names}
    return Table(columns, "row {}".format)


def _from_csv(path: Path, problems: Problems) -> Table:
    rows: list[list[str]] = []
    lines: list[int] = []
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=_DELIMITED[path.suffix.lower()], strict=True)
        try:
            header = next(reader, [])
            for row in reader:
                if not row:
                    continue
                if len(row) != len(header):
                    problems.report(f"line {reader.line_num}: has {len(row)} fields, the header has {len(header)}.")
                    continue
                rows.append(row)
                lines.append(reader.line_num)
        except csv.Error as error:
            raise DataError(f"{path}, line {reader.line_num}: is not valid CSV ({error}).") from error
    columns = {name: pa.array([row[k] or None for row in rows], pa.string()) for k, name in enumerate(header)}
    return Table(columns, lambda row: f"line {lines[row]}", typed=False)


def _from_json(path: Path, problems: Problems) -> Table:
    rows: list[dict[str, Any]] = []
    lines: list[int] = []
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                problems.report(f"line {number}: is not valid JSON ({error}).")
                continue
            if not isinstance(row, dict):
                problems.report(f"line {number}: is no JSON object with a value per column.")
                continue
            rows.append(row)
            lines.append(number)
    columns = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        try:
            columns[name] = _column([row.get(name) for row in rows])
        except pa.ArrowException as error:
            raise DataError(f'{path}, column "{name}": mixes kinds of values ({error}).') from error
    return Table(columns, lambda row: f"line {lines[row]}")


def _column(values: list[Any]) -> pa.Array:
    """JSON values as one column; where some rows have a list, a single value is a list of one."""
    if any(isinstance(value, list) for value in values):
        values = [value if value is None or isinstance(value, list) else [value] for value in values]
    return _plain(pa.array(values))


def _plain(column: Any) -> pa.Array:
    """One array with ordinary types: dictionaries resolved, and columns without any value as text."""
    column = pa.concat_arrays(column.chunks) if isinstance(column, pa.ChunkedArray) else column
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    return column.cast(pa.string()) if pa.types.is_null(column.type) else column
