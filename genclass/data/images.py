"""From a file to pixels: decoding and the crops of ADM.

The crops are those of `guided_diffusion/image_datasets.py` in openai/guided-diffusion, as the
official code uses them. Light: torch is imported only where tensors are made.
"""

from __future__ import annotations

import hashlib
import io
import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from genclass.data.image_list import ImageRow
from genclass.errors import GenclassError
from genclass.files import reason_of

if TYPE_CHECKING:
    import torch


def decode(path: str | Path, border: int = 0) -> Image.Image:
    """The image of a file, in 8-bit RGB, without `border` pixels of each side.

    As the official code does it, with Pillow's `convert("RGB")`: an EXIF orientation is not
    applied (a few files of ImageNet have one), transparency is dropped. Unlike there, 16-bit
    grey is scaled to 8 bits, as Pillow itself scales 16-bit colour, instead of clipped to white.

    Raises:
        GenclassError: the file is missing, truncated or no image, or smaller than its border.
    """
    return decode_bytes(read_bytes(path), path, border)


def read_bytes(path: str | Path) -> bytes:
    """The bytes of an image file; raises GenclassError if it cannot be read."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise GenclassError(f"{path}: cannot read the image: {reason_of(error)}") from None


def decode_bytes(content: bytes, origin: str | Path, border: int = 0) -> Image.Image:
    """`decode` for a file that was already read; `origin` begins the messages."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            if image.mode.startswith("I"):  # 16-bit grey
                pixels = np.clip(np.asarray(image), 0, 2**16 - 1) >> 8
                rgb = Image.fromarray(pixels.astype(np.uint8)).convert("RGB")
            else:
                rgb = image.convert("RGB")
    except Image.UnidentifiedImageError:
        raise GenclassError(f"{origin}: no image, or of an unknown format") from None
    except Exception as error:  # Pillow's plug-ins raise whatever damaged bytes lead to
        reason = " ".join(str(error).split()) or type(error).__name__
        raise GenclassError(f"{origin}: unreadable image: {reason}") from None
    if border:
        width, height = rgb.size
        if min(rgb.size) <= 2 * border:
            raise GenclassError(
                f"{origin}: {width} x {height} pixels, all within the border of {border}"
            )
        rgb = rgb.crop((border, border, width - border, height - border))
    return rgb


def load_image(folder: str | Path, row: ImageRow, border: int = 0) -> Image.Image:
    """The image of a row, if it is still the file that the image list was made from.

    Raises:
        GenclassError: it is missing, has changed or is unreadable.
    """
    path = Path(folder) / row.path
    content = read_bytes(path)
    found = hashlib.sha256(content).hexdigest()
    if found != row.sha256:
        raise GenclassError(
            f"{path}: the image has changed: its sha256 is {found}, expected {row.sha256}: restore "
            f"it, or delete the dataset's image list (images/NAME.csv in the results) and rerun"
        )
    return decode_bytes(content, path, border)


def center_crop(image: Image.Image, size: int) -> Image.Image:
    """The middle size x size pixels, after the short side was scaled to `size` (ADM)."""
    image = _scaled(image, size)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return image.crop((left, top, left + size, top + size))


def lanczos_crop(image: Image.Image, size: int) -> Image.Image:
    """The middle size x size pixels, after the short side was scaled to 1.125 x size with LANCZOS.

    The evaluation crop of VAR (https://github.com/FoundationVision/VAR, utils/data.py), with the
    rounding of torchvision's Resize and CenterCrop.
    """
    short, long = round(1.125 * size), int(round(1.125 * size) * max(image.size) / min(image.size))
    width, height = (short, long) if image.width <= image.height else (long, short)
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return image.crop((left, top, left + size, top + size))


def random_crop(image: Image.Image, size: int, generator: np.random.Generator) -> Image.Image:
    """Any size x size pixels, after the short side was scaled to size / 1.0 ... size / 0.8 (ADM).

    Draws the short side, then the top, then the left edge.
    """
    short = int(generator.integers(math.ceil(size / 1.0), math.ceil(size / 0.8), endpoint=True))
    image = _scaled(image, short)
    top = int(generator.integers(image.height - size, endpoint=True))
    left = int(generator.integers(image.width - size, endpoint=True))
    return image.crop((left, top, left + size, top + size))


def to_tensor(image: Image.Image) -> torch.Tensor:
    """float32 [3, height, width] in [-1, 1] of an RGB image."""
    import torch

    pixels = torch.from_numpy(np.array(image))  # uint8 [height, width, 3]
    return pixels.permute(2, 0, 1).to(torch.float32).div(127.5).sub(1).contiguous()


def _scaled(image: Image.Image, short: int) -> Image.Image:
    """The short side becomes `short` pixels: halved with BOX while it can be, then BICUBIC."""
    while min(image.size) >= 2 * short:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = short / min(image.size)
    size = round(image.width * scale), round(image.height * scale)
    return image.resize(size, Image.Resampling.BICUBIC)
