"""From runs to tables: grids of methods, data, settings, bits and seeds."""

from amodal.benchmark.grid import plan, read_results, run_grid
from amodal.benchmark.runs import Run, carry_out
from amodal.benchmark.summary import Row, summarise

__all__ = ["Row", "Run", "carry_out", "plan", "read_results", "run_grid", "summarise"]
