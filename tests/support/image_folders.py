"""Folders of small images, as datasets come."""

import hashlib
import io
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

NAMES = [f"ILSVRC2012_val_{i:08d}.JPEG" for i in range(6)]


def put(folder: Path, *names: str) -> Path:
    """Small images, each with its own bytes."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
        pixels = np.random.RandomState(seed).randint(0, 256, (8, 9, 3)).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "png" if path.suffix == ".png" else "jpeg")
        path.write_bytes(buffer.getvalue())
    return folder


def devkit(folder: Path, truth: str) -> Path:
    """Three leaves and one inner node of the devkit, its ids in another order than the wnids."""
    rows = [(1, "n02119789", 0), (2, "n01440764", 0), (3, "n01443537", 0), (1001, "n00001740", 5)]
    fields = [("ILSVRC2012_ID", object), ("WNID", object), ("num_children", object)]
    synsets = np.array([rows], dtype=fields).T  # [4, 1], as in the real file
    data = folder / "ILSVRC2012_devkit_t12" / "data"
    data.mkdir(parents=True, exist_ok=True)
    savemat(data / "meta.mat", {"synsets": synsets})
    (data / "ILSVRC2012_validation_ground_truth.txt").write_text(truth)
    return folder
