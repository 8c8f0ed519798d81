"""Rates: how fast a device runs the models of a config, measured by a calibration or guessed."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

from genclass.config import Config
from genclass.errors import GenclassError
from genclass.files import read_json, write_atomically

# Dense floating-point operations a second, as the vendors state them: (bfloat16, float32).
GPUS = {
    "A100": (312e12, 19.5e12),
    "H100": (989e12, 67e12),
    "H200": (989e12, 67e12),
    "L40S": (362e12, 91.6e12),
    "RTX4090": (165e12, 82.6e12),
}
ASSUMED_SHARE = 0.4  # of that, a guess


@dataclass(frozen=True)
class Rate:
    """How fast a device runs one model."""

    passes_per_second: float
    seconds_per_image: float = 0.0  # reading and encoding it, once in every shard it is in
    seconds_per_job: float = 0.0  # until the first image: imports, checkpoints, compiled code
    seconds_to_compile: float = 0.0  # on top of that, in the first job that compiles the model

    def __post_init__(self) -> None:
        seconds = (self.seconds_per_image, self.seconds_per_job, self.seconds_to_compile)
        if not (0 < self.passes_per_second < math.inf and all(0 <= s < math.inf for s in seconds)):
            raise ValueError(f"not the speed of a device: {self}")


@dataclass(frozen=True)
class Rates:
    """How fast a device runs a config's models, measured or guessed."""

    device: str
    origin: str  # where the numbers are from
    models: dict[str, Rate]

    def write(self, path: str | Path) -> None:
        write_atomically(path, json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def read(cls, path: str | Path) -> Rates:
        """
        Raises:
            GenclassError: the file is missing or no calibration.
        """
        again = "measure with: genclass calibrate -c CONFIG"
        return read_json(path, cls, "calibration of this version", again)


def choose_rates(config: Config, gpu: str | None = None) -> Rates:
    """Those of the calibration beside the results; without one, or of a GPU by name, a guess.

    Raises:
        GenclassError: the calibration is damaged, or see `guessed_rates`.
    """
    calibration = config.run.calibration
    if gpu is None and calibration.is_file():
        return Rates.read(calibration)
    return guessed_rates(config, gpu or "H100")


def guessed_rates(config: Config, gpu: str) -> Rates:
    """What `ASSUMED_SHARE` of a GPU's stated peak would give.

    Raises:
        GenclassError: the GPU is not in the table.
    """
    if gpu not in GPUS:
        raise GenclassError(
            f"unknown GPU '{gpu}': known: {', '.join(GPUS)}; "
            f"measure others: genclass calibrate -c CONFIG"
        )
    rates = {}
    for name, model in config.models.items():
        peak = GPUS[gpu][0 if model.classifier.dtype == "bfloat16" else 1]
        work = model.system.work
        rates[name] = Rate(
            peak * ASSUMED_SHARE / max(work.score, 1),
            seconds_per_image=work.image / (peak * ASSUMED_SHARE),
        )
    return Rates(gpu, f"a guess: {ASSUMED_SHARE:.0%} of the stated peak", rates)
