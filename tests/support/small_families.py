"""Tiny instances of every family, and how torch's count of their operations is taken.

A family that is registered and missing here fails the contract test: give it a small one.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from genclass.config import ScoredModel, model_type
from genclass.families import System
from genclass.scorers.scorer import Scorer
from tests.support.small_networks import awakened

CLASSES = 6
CPU = torch.device("cpu")

_SIZE = {"layers": 6, "heads": 2, "width": 16}
_SIDES = [1, 2, 4]
_LLAMAGEN_VQ = {
    "architecture": "llamagen_vq",
    "channels": 32,
    "multipliers": [1, 1],
    "residual_blocks": 1,
    "latent": 32,
    "codebook": 32,
    "code_width": 4,
}
_VAR_VQ = {
    "architecture": "var_vq",
    "channels": 32,
    "multipliers": [1, 2],
    "codebook": 48,
    "code_width": 8,
    "sides": _SIDES,
}
_MASKGIT_VQ = {
    "architecture": "maskgit_vq",
    "channels": 32,
    "multipliers": [1, 1],
    "residual_blocks": 1,
    "latent": 8,
    "codebook": 32,
}
_TAMING_VQGAN = _LLAMAGEN_VQ | {"architecture": "taming_vqgan", "code_width": 8}
_AUTOENCODER = {"architecture": "autoencoder_kl", "channels": [32, 32], "residual_blocks": 1}
_LATENTS = {"size": _SIZE, "latent_size": 4}
_TIMESTEPS = {"step_size": 100}

# architecture -> variant -> what a config says of it; `image_size` is 8 where it is not told
SMALL: dict[str, dict[str, dict[str, Any]]] = {
    "randar": {
        variant: {
            "network": {"size": _SIZE, "vocabulary": 32, "grid": 4},
            "encoder": _LLAMAGEN_VQ,
            "classifier": classifier,
        }
        for variant, classifier in {
            "": {},
            "raster": {"orders": "raster"},
            "constant": {"orders": "constant"},
            "latent-noise": {"latent_noise": 0.3},
            "random-crop": {"augmentation": "random_crop"},
        }.items()
    },
    "randar_masked": {
        "": {
            "network": {"size": _SIZE, "vocabulary": 32, "grid": 4},
            "encoder": _LLAMAGEN_VQ,
            "classifier": {"levels": 3},
        }
    },
    "rar": {
        variant: {
            "network": {"size": _SIZE | {"hidden": 40}, "vocabulary": 32, "grid": 4},
            "encoder": _MASKGIT_VQ,
            "classifier": classifier,
        }
        for variant, classifier in {"": {}, "raster": {"orders": "raster"}}.items()
    },
    "maskgit": {
        "": {
            "network": {"size": _SIZE | {"hidden": 40}, "vocabulary": 32, "grid": 4},
            "encoder": _TAMING_VQGAN,
            "classifier": {"levels": 3, "schedule": "square"},  # the least ratio is 1/16
        }
    },
    "llamagen": {
        "": {
            "network": {"size": _SIZE, "vocabulary": 32, "grid": 4},
            "encoder": _LLAMAGEN_VQ,
        }
    },
    "var": {
        variant: {
            "network": {
                "size": {"layers": 3, "heads": 2, "width": 32},
                "vocabulary": 48,
                "code_width": 8,
                "sides": _SIDES,
            }
            | network,
            "encoder": _VAR_VQ,
            "classifier": classifier,
        }
        for variant, network, classifier in (
            ("", {}, {}),
            ("samples", {}, {"noise_deviation": 0.5}),
            ("shared", {"shared_modulation": True}, {"crop": "adm"}),
        )
    },
    "dit": {
        variant: {"network": _LATENTS, "encoder": _AUTOENCODER, "classifier": classifier}
        for variant, classifier in {
            "": _TIMESTEPS,
            "per-trial": _TIMESTEPS | {"noise": "per_trial", "latent": "mean"},
        }.items()
    },
    "sit": {"": {"network": _LATENTS, "encoder": _AUTOENCODER, "classifier": _TIMESTEPS}},
    "sit_repa": {
        "": {
            "network": _LATENTS | {"aligned_to": [8], "projector_width": 16},
            "encoder": _AUTOENCODER,
            "classifier": _TIMESTEPS,
        }
    },
    "mean_flow": {
        variant: {"network": _LATENTS, "encoder": _AUTOENCODER, "classifier": classifier}
        for variant, classifier in {
            "": {},
            "instantaneous": {"start": "time", "legacy_clamped_time": True},
        }.items()
    },
    "image_classifier": {
        "": {
            "network": {"size": _SIZE, "patch": 2, "grid": 4, "labels": None},
            "classifier": {},
        }
    },
    "gaussians": {"": {"network": {}}},  # examples/gaussians.py
}


def section(architecture: str, variant: str = "", dtype: str | None = None) -> dict[str, Any]:
    """Of a config's model; the checkpoints are called `ARCHITECTURE` and `ENCODER`.

    dtype: where the family has a choice; None: its default.
    """
    small = SMALL[architecture][variant]
    raw: dict[str, Any] = {"image_size": 8} | small
    raw["network"] = {
        "architecture": architecture,
        "checkpoint": architecture,
        "classes": CLASSES,
        **small["network"],
    }
    if "encoder" in small:
        encoder = small["encoder"]
        raw["encoder"] = encoder | {"checkpoint": encoder["architecture"]}
    raw["classifier"] = small.get("classifier", {}) | ({"dtype": dtype} if dtype else {})
    return raw


def system_of(architecture: str, variant: str = "", dtype: str | None = None) -> System:
    raw = section(architecture, variant, dtype)
    return model_type(architecture, ScoredModel).model_validate(raw).system


def write_weights(system: System, folder: Path) -> dict[str, Path]:
    """Random weights, the same each time: what a checkpoint is for -> its file."""
    files = {}
    for part, card in (("network", system.family), ("encoder", system.encoder)):
        if card is not None:
            torch.manual_seed(len(files))
            files[part] = folder / f"{card.checkpoint}.safetensors"
            save_file(awakened(card.build()).state_dict(), files[part])
    return files


def load(architecture: str, folder: Path, variant: str = "", dtype: str | None = None) -> Scorer:
    """The scorer of a small system, by way of files."""
    system = system_of(architecture, variant, dtype)
    return system.load(write_weights(system, folder), CPU)


def variants() -> Iterator[tuple[str, str]]:
    for architecture, small in SMALL.items():
        for variant in small:
            yield architecture, variant
