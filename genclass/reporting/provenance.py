"""Where the numbers come from: code, software, hardware, downloads, specs, and what it cost."""

from __future__ import annotations

import platform
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import genclass
from genclass.reporting.results import Results

_REPOSITORY = Path(__file__).parents[2]
_RENDERED_WITH = ("altair", "jinja2", "numpy", "pandas", "scipy", "vl-convert-python")

# Watts a board may draw at most, from its vendor's data sheet: an upper bound of its energy.
_BOARD_POWER = {"H200": 700, "H100": 700, "A100": 400, "V100": 300, "L40S": 350, "A6000": 300}


@dataclass(frozen=True)
class Provenance:
    """Everything that the page's last section shows; plain values, also for JSON."""

    run: dict[str, str]
    versions: dict[str, dict[str, list[str]]]  # where -> package -> the versions found
    devices: list[dict[str, Any]]  # device, hours, evaluations, watt_hours or None
    # Manifests of what is evaluated, under the config's names; {name, missing} where there is none.
    checkpoints: list[dict[str, Any]]
    datasets: list[dict[str, Any]]
    evaluations: list[dict[str, Any]]


def gather(results: Results) -> Provenance:
    """Collect it from the results folder and this machine."""
    config = results.config
    models, datasets = ({cell[side] for cell in config.cells()} for side in (0, 1))
    checkpoints = {
        name for model in models for name in config.models[model].system.checkpoints.values()
    }
    return Provenance(
        run={
            "Results": str(results.root),
            "Code": git_state(_REPOSITORY),
            "genclass": genclass.__version__,
            "Rendered": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            "Rendered on": f"{_processor()}, {platform.platform()}",
            "Seed": str(config.seed),
        },
        versions={"scored with": _scored_with(results), "rendered with": _rendered_with()},
        devices=_devices(results),
        checkpoints=[
            _manifest(results, "checkpoints", n) for n in config.checkpoints if n in checkpoints
        ],
        datasets=[_manifest(results, "datasets", n) for n in config.datasets if n in datasets],
        evaluations=_evaluations(results),
    )


def git_state(repository: Path) -> str:
    """The commit, and whether files differ from it; in words where there is none."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(repository), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        commit = git("rev-parse", "HEAD")
        changed = len(git("status", "--porcelain").splitlines())
    except (OSError, subprocess.CalledProcessError):
        return "not in a git repository"
    files = "1 file" if changed == 1 else f"{changed} files"
    return f"commit {commit}" + (f", {files} changed since (dirty)" if changed else ", clean")


def _processor() -> str:
    """The CPU's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _scored_with(results: Results) -> dict[str, list[str]]:
    found: dict[str, set[str]] = {}
    for evaluation in results.evaluations:
        for part in evaluation.record["shards"] if evaluation.record else ():
            for package, number in part["versions"].items():
                found.setdefault(package, set()).add(number)
    return {package: sorted(found[package]) for package in sorted(found)}


def _rendered_with() -> dict[str, list[str]]:
    found = {"python": [platform.python_version()]}
    for package in _RENDERED_WITH:
        try:
            found[package] = [version(package)]
        except PackageNotFoundError:
            found[package] = ["unknown"]
    return found


def _devices(results: Results) -> list[dict[str, Any]]:
    hours: dict[str, float] = {}
    counts: dict[str, int] = {}
    for evaluation in results.evaluations:
        for device, seconds in evaluation.seconds.items():
            hours[device] = hours.get(device, 0.0) + seconds / 3600
            counts[device] = counts.get(device, 0) + 1
    return [
        {
            "device": device,
            "hours": hours[device],
            "evaluations": counts[device],
            "watt_hours": next(
                (hours[device] * watts for name, watts in _BOARD_POWER.items() if name in device),
                None,
            ),
        }
        for device in sorted(hours)
    ]


def _manifest(results: Results, kind: str, name: str) -> dict[str, Any]:
    return (results.manifest(kind, name) or {"missing": "not fetched yet"}) | {"name": name}


def _evaluations(results: Results) -> list[dict[str, Any]]:
    entries = []
    for evaluation in results.evaluations:
        entry: dict[str, Any] = {"model": evaluation.model, "dataset": evaluation.dataset}
        if evaluation.metrics and evaluation.record:
            shards = evaluation.record["shards"]
            entry |= {
                "spec": evaluation.metrics["spec"],
                "scores": evaluation.record["sha256"],
                "images": evaluation.images,
                "trials": evaluation.trials,
                "files": len(shards),
                "seconds": sum(evaluation.seconds.values()),
                "devices": sorted(evaluation.seconds),
                "peak_memory": max(part["peak_memory"] for part in shards),
            }
        else:
            entry["missing"] = evaluation.missing
        entries.append(entry)
    return entries
