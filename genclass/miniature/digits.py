"""The miniature's datasets: scikit-learn's handwritten digits, clean and shifted, as ImageFolders.

1,797 real digits, 8 x 8 pixels. Of every class 40 are for testing and the rest for training; the
shifted test sets are drawn from the first of those 40, so that one image can be followed through
all sets. Randomness comes from `RandomState`, whose streams NumPy keeps the same for ever.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

from genclass.files import disk_errors

CLASSES = 10
SIDE = 8  # pixels
TEST_IMAGES = 40  # of every class
SEED = 0

Pixels = NDArray[np.float64]  # [8, 8], 0 is background, 1 is ink
Shift = Callable[[Pixels, np.random.RandomState], Pixels]


def unchanged(digit: Pixels, random: np.random.RandomState) -> Pixels:
    return digit


def rotation(digit: Pixels, random: np.random.RandomState) -> Pixels:
    """Turned by 15 to 35 degrees, either way."""
    degrees = random.uniform(15, 35) * random.choice([-1, 1])
    return resampled(digit, lambda image: image.rotate(degrees, Image.Resampling.BICUBIC))


def noise(deviation: float) -> Shift:
    """Gaussian noise on every pixel."""

    def add(digit: Pixels, random: np.random.RandomState) -> Pixels:
        return digit + random.normal(0, deviation, digit.shape)

    return add


def sketch(digit: Pixels, random: np.random.RandomState) -> Pixels:
    """Only thin lines: where there is more ink than around."""
    padded = np.pad(digit, 1)
    around = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]
    lines = np.clip(4 * digit - around, 0, None)
    return lines / lines.max()


def occlusion(digit: Pixels, random: np.random.RandomState) -> Pixels:
    """A square of 3 x 3 pixels painted over in mid-grey."""
    top, left = random.randint(1, SIDE - 3, size=2)
    digit = digit.copy()
    digit[top : top + 3, left : left + 3] = 0.5
    return digit


def slanted(digit: Pixels, random: np.random.RandomState) -> Pixels:
    """Slanted and faint, as with a pen that runs dry."""
    slant = random.uniform(0.25, 0.5) * random.choice([-1, 1])
    shear = (1.0, slant, -slant * SIDE * SCALE / 2, 0.0, 1.0, 0.0)
    size, filter_ = (SIDE * SCALE,) * 2, Image.Resampling.BICUBIC
    return 0.6 * resampled(
        digit, lambda image: image.transform(size, Image.Transform.AFFINE, shear, filter_)
    )


SCALE = 8  # geometry is done on an enlarged copy


def resampled(digit: Pixels, geometry: Callable[[Image.Image], Image.Image]) -> Pixels:
    """A geometric change, through an enlarged copy."""
    large = Image.fromarray(digit.astype(np.float32)).resize(
        (SIDE * SCALE, SIDE * SCALE), Image.Resampling.BICUBIC
    )
    small = geometry(large).resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float64)


@dataclass(frozen=True)
class DigitSet:
    """How a test set differs from the clean digits."""

    shift: Shift
    images: int = 16  # of every class
    classes: tuple[int, ...] = tuple(range(CLASSES))


TEST_SETS = {
    "digits": DigitSet(unchanged, TEST_IMAGES),
    "digits-rotation": DigitSet(rotation),
    "digits-noise-1": DigitSet(noise(0.15)),
    "digits-noise-2": DigitSet(noise(0.3)),
    "digits-noise-3": DigitSet(noise(0.5)),
    "digits-sketch": DigitSet(sketch),
    "digits-occlusion": DigitSet(occlusion),
    "digits-four": DigitSet(slanted, TEST_IMAGES, classes=(1, 3, 8, 9)),
}


def draw_digits(folder: str | Path) -> None:
    """Write every set as an ImageFolder `FOLDER/SET/digit-N/INDEX.png`: train, and TEST_SETS.

    The folder appears whole or not at all; INDEX is the image's place in scikit-learn's set.

    Raises:
        GenclassError: the disk is full, or the folder cannot be written.
    """
    digits = load_digits()
    pixels, labels = digits.images / 16, digits.target
    folder = Path(folder)
    with disk_errors("cannot draw the digits", folder.parent):
        folder.parent.mkdir(parents=True, exist_ok=True)
        _draw(folder, pixels, labels)


def _draw(folder: Path, pixels: Pixels, labels: np.ndarray) -> None:
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as temporary:
        fresh = Path(temporary) / folder.name
        for label in range(CLASSES):
            places = np.flatnonzero(labels == label)
            order = np.random.RandomState(SEED + label).permutation(places)
            test, train = order[:TEST_IMAGES], order[TEST_IMAGES:]
            for place in train:
                _save(pixels[place], fresh / "train", label, place)
            for index, (name, test_set) in enumerate(TEST_SETS.items()):
                if label not in test_set.classes:
                    continue
                for place in test[: test_set.images]:
                    random = np.random.RandomState(1000 * index + place)
                    _save(test_set.shift(pixels[place], random), fresh / name, label, place)
        if folder.exists():
            shutil.rmtree(folder)
        fresh.rename(folder)


def _save(digit: Pixels, folder: Path, label: int, place: int) -> None:
    path = folder / f"digit-{label}" / f"{place:04d}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.rint(np.clip(digit, 0, 1) * 255).astype(np.uint8)).save(path)
