"""The head of a job's log: where it runs, on what, under which spec; no torch."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

from genclass.jobs.devices import driver_says
from genclass.scores.shards import Shard
from genclass.specs.spec import Spec

_PACKAGES = ("genclass", "torch", "numpy", "safetensors", "snakemake")


def print_head(
    spec: Spec, shard: Shard, requested: int, visible: Sequence[str], device: str
) -> None:
    """Print it, before anything can go wrong.

    requested, visible: how many GPUs the job asks for, and which it can see.
    """
    job = os.environ.get("SLURM_JOB_ID")
    host = platform.node() + (f" as {os.environ['SLURMD_NODENAME']}" if _virtual() else "")
    names = {index: (name, driver) for index, name, driver in driver_says()}
    shown = [f"{gpu} ({names[gpu][0]})" if gpu in names else gpu for gpu in visible]
    drivers = sorted({driver for _, driver in names.values()})
    versions = ", ".join(f"{name} {_version(name)}" for name in _PACKAGES)
    for label, text in {
        "shard": f"{shard.name} of {spec.dataset}",
        "spec": spec.sha256,
        "host": f"{host}, SLURM job {job}" if job else host,
        "device": device,
        "GPUs": f"{requested} asked for, {len(visible)} visible: {', '.join(shown) or 'none'}",
        "driver": ", ".join(drivers) or "none",
        "versions": f"{versions}, python {platform.python_version()}",
    }.items():
        print(f"{label:<9} {text}", flush=True)


def _virtual() -> bool:
    return os.environ.get("SLURMD_NODENAME", platform.node()) != platform.node()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
