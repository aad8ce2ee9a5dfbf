"""Checkpoints that are whole or not there, and hold arrays and JSON only."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from amodal.errors import DataError

__all__ = ["append_log", "load_checkpoint", "save_checkpoint"]


def save_checkpoint(
    path: Path, network: nn.Module, optimizer: Optimizer, best: dict[str, Tensor], **facts: Any
) -> None:
    """Write network, optimiser, best weights so far and facts in one atomic step.

    Args:
        path: The file; written beside its place, synced and renamed.
        network: Parameters and buffers.
        optimizer: Its state is flattened to named tensors.
        best: Weights of the best validation score; empty without validation.
        facts: JSON values, for instance epoch and score; ``run`` says which run the checkpoint belongs to.
    """
    tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
    tensors |= {f"best.{name}": value for name, value in best.items()}
    state = optimizer.state_dict()
    numbers: dict[str, Any] = {}
    for index, slots in state["state"].items():
        for name, value in slots.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{index}.{name}"] = value
            else:
                numbers[f"{index}.{name}"] = value
    facts |= {"groups": state["param_groups"], "numbers": numbers}
    draft = path.with_suffix(".part")
    save_file(
        {name: value.detach().clone().contiguous() for name, value in tensors.items()},
        draft,
        {"facts": json.dumps(facts)},
    )
    with draft.open("rb") as handle:
        os.fsync(handle.fileno())
    draft.replace(path)


def load_checkpoint(
    path: Path, network: nn.Module, optimizer: Optimizer, run: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Take back what ``save_checkpoint`` wrote.

    Args:
        path: The file.
        network: Is filled.
        optimizer: Is filled.
        run: What the checkpoint must have been written with, JSON values by name.

    Returns:
        The facts, and the best weights so far.

    Raises:
        DataError: If the file is damaged, or belongs to another run; says what differs.
    """
    way_out = "Remove it, or choose another folder, to start anew."
    try:
        with safe_open(path, "pt") as file:
            facts: dict[str, Any] = json.loads(file.metadata()["facts"])
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        other = [name for name in {**facts["run"], **run} if facts["run"].get(name) != run.get(name)]
    except Exception as error:
        raise DataError(f"{path} is damaged, so training cannot resume ({error}). {way_out}") from error
    if other:
        differ = "; ".join(f"{name} was {facts['run'].get(name)} and is {run.get(name)}" for name in other)
        raise DataError(f"{path} belongs to another training, which cannot be resumed here: {differ}. {way_out}")
    try:
        network.load_state_dict(_under(tensors, "network."))
        slots: dict[int, dict[str, Any]] = {}
        for name, value in (_under(tensors, "optimizer.") | facts.pop("numbers")).items():
            index, slot = name.split(".", 1)
            slots.setdefault(int(index), {})[slot] = value
        optimizer.load_state_dict({"state": slots, "param_groups": facts.pop("groups")})
    except (RuntimeError, ValueError, KeyError) as error:
        raise DataError(f"{path} was written by another version of the method ({error}). {way_out}") from error
    return facts, _under(tensors, "best.")


def _under(tensors: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def append_log(path: Path, line: dict[str, Any], *, epoch: int) -> None:
    """Add a line to a JSONL log; lines of this epoch or later, left by an interrupted run, are dropped first.

    Args:
        path: The log.
        line: JSON values.
        epoch: Epoch the line belongs to.
    """
    kept = []
    if path.exists():
        for text in path.read_text().splitlines():
            try:
                if json.loads(text)["epoch"] < epoch:
                    kept.append(text)
            except (ValueError, KeyError):
                continue  # the last line of a killed run may be torn
    draft = path.with_suffix(".part")
    draft.write_text("\n".join([*kept, json.dumps({"epoch": epoch, **line})]) + "\n")
    draft.replace(path)
