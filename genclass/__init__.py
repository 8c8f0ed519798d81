"""Generative classifiers, scored image by image: the public face for Python.

    import genclass

    config = genclass.load_config("config/miniature.yaml")
    result = genclass.classify(config, "randar", "digit.png")
    print(result.classes, result.posterior)

A family of one's own is a `Family` (what it is) and a `Scorer` (how it scores); an example stands
in examples/gaussians.md. torch is imported by `classify` only, and what reads configs where it is
asked for: a job of the workflow needs neither.
"""

from __future__ import annotations

__version__ = "0.1.0"  # before what follows, which asks for it

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genclass.errors import GenclassError
from genclass.families import Encoder, Family, Role, Scoring, Trial, Work
from genclass.scorers.scorer import Prepared, Scorer

if TYPE_CHECKING:
    from genclass.config import Config, load_config
    from genclass.gallery.classify import Classification

__all__ = [
    "Config",
    "Encoder",
    "Family",
    "GenclassError",
    "Prepared",
    "Role",
    "Scorer",
    "Scoring",
    "Trial",
    "Work",
    "classify",
    "load_config",
]


def classify(
    config: Config, model: str, image: str | Path, trials: int | None = None, device: str = "auto"
) -> Classification:
    """What a model of a config thinks of an image file: its five best classes, and the evidence.

    trials: how many are averaged; None: the model's budget. device: auto, cpu or cuda.

    Raises:
        GenclassError: the model is unknown, a checkpoint is not on disk, or the file is no image.
    """
    from genclass.gallery.classify import classify_files

    return next(iter(classify_files(config, model, [image], trials, device)))


def __getattr__(name: str) -> Any:
    if name not in ("Config", "load_config"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("genclass.config"), name)
