"""Evidence maps as pictures: orange speaks for one class, blue for the other."""

from __future__ import annotations

import numpy as np
from PIL import Image

_FOR = np.array([0.95, 0.5, 0.05], dtype=np.float32)  # orange; RGB in [0, 1]
_AGAINST = np.array([0.1, 0.4, 0.95], dtype=np.float32)  # blue
_GROUND = 0.88  # grey, where the image itself may not be shown


def draw_evidence(evidence: np.ndarray, image: Image.Image | None, size: int) -> Image.Image:
    """The map over the image in grey, or over plain grey: RGB, `size` x `size` pixels.

    evidence: float [grid, grid], positive for orange; its strongest place sets the scale.
    image: what the classifier saw.
    """
    base = np.full((size, size, 1), _GROUND, dtype=np.float32)
    if image is not None:
        grey = image.convert("L").resize((size, size), Image.Resampling.BICUBIC)
        base[..., 0] = np.asarray(grey, dtype=np.float32) / 255
    strength = evidence / max(float(np.abs(evidence).max()), 1e-12)
    cells = Image.fromarray(strength.astype(np.float32)).resize(
        (size, size), Image.Resampling.NEAREST
    )
    signed = np.asarray(cells)[..., None]
    opacity = 0.75 * np.abs(signed)
    mixed = (1 - opacity) * base + opacity * np.where(signed > 0, _FOR, _AGAINST)
    return Image.fromarray((mixed * 255).round().astype(np.uint8))
