"""From runs to tables: grids of methods, data, settings, bits and seeds."""

from amodal.benchmark.engines import ENGINES
from amodal.benchmark.grid import plan, run_grid
from amodal.benchmark.runs import Run, carry_out
from amodal.benchmark.store import read_results
from amodal.benchmark.summary import Row, summarise

__all__ = ["ENGINES", "Row", "Run", "carry_out", "plan", "read_results", "run_grid", "summarise"]
