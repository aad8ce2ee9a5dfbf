"""Several processes learn one model."""

import json
import os
import subprocess
import sys

import pytest
import torch

from tests.training.tiny import equal


@pytest.mark.slow
def test_two_processes_end_with_one_model(tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "tests.training.tiny", "together", str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment)
    assert done.returncode == 0, done.stderr
    one, two = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert equal(one, two)
    assert all(torch.isfinite(value).all() for value in one.values())
    lines = [json.loads(line) for line in (tmp_path / "log" / "log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == list(range(6))
    assert lines[-1]["losses"]["loss"] < lines[0]["losses"]["loss"]
    assert (tmp_path / "log" / "checkpoint.safetensors").exists()
