"""From files to pixels: what decodes, what is refused, and the crops of ADM."""

import hashlib
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from genclass.data.image_list import ImageRow
from genclass.data.images import (
    center_crop,
    decode,
    lanczos_crop,
    load_image,
    random_crop,
    to_tensor,
)
from genclass.errors import GenclassError

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "center_crop.json").read_text())


def photo(seed: int, height: int, width: int) -> np.ndarray:
    """The photo recipe of tests/golden/README.md: uint8 [height, width, 3]."""
    r = np.random.RandomState(seed)
    yy, xx = np.mgrid[0:height, 0:width]
    channels = [
        127.5
        + 127.5
        * np.sin(2 * np.pi * (r.rand() * 6 * xx / width + r.rand() * 6 * yy / height + r.rand()))
        for _ in range(3)
    ]
    return np.stack(channels, axis=-1).astype(np.uint8)


def saved(image: Image.Image, path: Path, **options: object) -> Path:
    image.save(path, **options)
    return path


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda c: f"{c['width']}x{c['height']}")
def test_center_crop_is_that_of_adm(case: dict) -> None:
    image = Image.fromarray(photo(case["seed"], case["height"], case["width"]))
    pixels = np.asarray(center_crop(image, case["size"]))
    assert list(pixels.shape) == case["shape"]
    assert pixels[:2, :2].tolist() == case["corner"]
    assert hashlib.sha256(pixels.tobytes()).hexdigest() == case["sha256"]


@pytest.mark.parametrize("size", [(500, 375), (333, 701), (288, 288), (40, 30)])
def test_lanczos_crop_is_that_of_var(size: tuple[int, int]) -> None:
    """As torchvision's Resize(288, LANCZOS) and CenterCrop(256) do it, written out."""
    width, height = size
    image = Image.fromarray(photo(1, height, width))
    if width <= height:
        scaled = image.resize((288, int(288 * height / width)), Image.Resampling.LANCZOS)
    else:
        scaled = image.resize((int(288 * width / height), 288), Image.Resampling.LANCZOS)
    top = round((scaled.height - 256) / 2)
    left = round((scaled.width - 256) / 2)
    expected = np.asarray(scaled)[top : top + 256, left : left + 256]
    np.testing.assert_array_equal(lanczos_crop(image, 256), expected)


def test_random_crop_depends_on_the_generator_alone() -> None:
    image = Image.fromarray(photo(1, 90, 130))

    def crop(seed: int) -> bytes:
        crop = random_crop(image, 32, np.random.default_rng(seed))
        assert crop.size == (32, 32)
        return crop.tobytes()

    assert crop(3) == crop(3)
    assert len({crop(seed) for seed in range(20)}) == 20


def test_random_crop_covers_the_scales_and_reaches_every_edge() -> None:
    # The red channel holds the column, so its range in a crop tells scale and place.
    columns = np.broadcast_to(np.linspace(0, 255, 64, dtype=np.uint8)[None, :, None], (64, 64, 3))
    generator = np.random.default_rng(0)
    spans, lefts, rights = set(), [], []
    for _ in range(300):
        row = np.asarray(random_crop(Image.fromarray(columns), 16, generator))[0, :, 0].astype(int)
        spans.add(round(16 * 240 / (row[-1] - row[0])))  # the short side before the crop
        lefts.append(row[0])
        rights.append(row[-1])
    assert spans >= {16, 17, 18, 19, 20} and max(spans) <= 21  # ceil(16 / 0.8) = 20
    assert min(lefts) < 10 and max(rights) > 245


def test_to_tensor_is_float32_in_minus_one_to_one() -> None:
    import torch

    pixels = np.zeros((2, 3, 3), dtype=np.uint8)
    pixels[0, 1] = (255, 51, 0)
    tensor = to_tensor(Image.fromarray(pixels))
    assert tensor.shape == (3, 2, 3) and tensor.dtype == torch.float32 and tensor.is_contiguous()
    assert tensor[:, 0, 1].tolist() == pytest.approx([1.0, 51 / 127.5 - 1, -1.0], abs=1e-7)


@pytest.mark.parametrize(
    ("image", "suffix", "pixel"),
    [
        (Image.new("L", (4, 3), 77), "png", (77, 77, 77)),
        (Image.new("1", (4, 3), 1), "png", (255, 255, 255)),
        (Image.new("LA", (4, 3), (77, 0)), "png", (77, 77, 77)),
        (Image.new("RGBA", (4, 3), (10, 20, 30, 0)), "png", (10, 20, 30)),
        (Image.new("RGB", (4, 3), (200, 100, 0)).quantize(4), "png", (200, 100, 0)),
        (Image.new("CMYK", (4, 3), (0, 255, 255, 0)), "jpg", (254, 0, 0)),
        (Image.fromarray(np.full((3, 4), 0x8012, np.uint16)), "png", (128, 128, 128)),
        (Image.fromarray(np.full((3, 4), 0xFFFF, np.uint16)), "png", (255, 255, 255)),
        (Image.fromarray(np.full((3, 4), 0x00FF, np.uint16)), "png", (0, 0, 0)),
    ],
    ids=["grey", "bilevel", "grey-alpha", "rgba", "palette", "cmyk", "16", "16-white", "16-dark"],
)
def test_every_mode_becomes_rgb(
    tmp_path: Path, image: Image.Image, suffix: str, pixel: tuple[int, ...]
) -> None:
    decoded = decode(saved(image, tmp_path / f"image.{suffix}"))
    assert decoded.mode == "RGB" and decoded.size == (4, 3)
    assert np.abs(np.asarray(decoded).astype(int) - pixel).max() <= 2


def test_an_exif_orientation_is_not_applied_as_in_the_official_code(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn me by 90 degrees"
    image = Image.fromarray(photo(2, 20, 30))
    assert decode(saved(image, tmp_path / "turned.jpg", exif=exif)).size == (30, 20)


def test_the_format_is_that_of_the_bytes_not_of_the_name(tmp_path: Path) -> None:
    # ImageNet holds a PNG called n02105855_2933.JPEG.
    buffer = io.BytesIO()
    Image.new("RGB", (4, 3)).save(buffer, "png")
    (tmp_path / "image.JPEG").write_bytes(buffer.getvalue())
    assert decode(tmp_path / "image.JPEG").size == (4, 3)


def test_the_border_is_cut_off(tmp_path: Path) -> None:
    pixels = np.full((10, 12, 3), (255, 0, 0), np.uint8)
    pixels[2:-2, 2:-2] = 7
    path = saved(Image.fromarray(pixels), tmp_path / "image.png")
    assert np.unique(np.asarray(decode(path, border=2))).tolist() == [7]
    assert decode(path, border=2).size == (8, 6)
    with pytest.raises(GenclassError, match=r"image\.png: 12 x 10 pixels, all within the border"):
        decode(path, border=5)


def test_bad_files_are_named(tmp_path: Path) -> None:
    whole = saved(Image.fromarray(photo(3, 64, 64)), tmp_path / "whole.jpg").read_bytes()
    png = saved(Image.fromarray(photo(3, 64, 64)), tmp_path / "whole.png").read_bytes()
    for name, content, message in (
        ("cut.jpg", whole[: len(whole) // 2], r"cut\.jpg: unreadable image: .*truncated"),
        ("cut.png", png[: len(png) // 2], r"cut\.png: unreadable image: "),
        ("page.jpg", b"<html>quota exceeded</html>", r"page\.jpg: no image, or of an unknown"),
        ("empty.jpg", b"", r"empty\.jpg: no image, or of an unknown format"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(GenclassError, match=message) as caught:
            decode(tmp_path / name)
        assert "\n" not in str(caught.value)
    with pytest.raises(GenclassError, match=r"gone\.jpg: cannot read the image: No such file"):
        decode(tmp_path / "gone.jpg")


def test_a_changed_image_is_refused(tmp_path: Path) -> None:
    path = saved(Image.new("RGB", (4, 3), (1, 2, 3)), tmp_path / "a.png")
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    row = ImageRow("a.png", "a.png", 0, sha256)
    assert load_image(tmp_path, row).getpixel((0, 0)) == (1, 2, 3)
    saved(Image.new("RGB", (4, 3), (9, 9, 9)), path)
    with pytest.raises(GenclassError, match=rf"a\.png: the image has changed: .*expected {sha256}"):
        load_image(tmp_path, row)


def test_data_is_light() -> None:
    modules = "class_lists", "image_list", "images", "prepare"
    code = "import sys; " + "; ".join(f"import genclass.data.{name}" for name in modules)
    check = "assert not {'torch', 'scipy', 'pandas', 'torchvision'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", f"{code}; {check}"], check=True)


@pytest.mark.parametrize("format", ["DDS", "AVIF"])
def test_what_decoders_make_of_damage_is_one_line(tmp_path: Path, format: str) -> None:
    """Under another name, and with whatever their plug-ins raise."""
    if format not in Image.SAVE and not Image.init() and format not in Image.SAVE:
        pytest.skip(f"this Pillow writes no {format}")
    buffer = io.BytesIO()
    Image.fromarray(photo(1, 32, 32)).save(buffer, format)
    whole = buffer.getvalue()
    path = tmp_path / "x.jpg"
    refused = 0
    for seed in range(60):
        r = np.random.RandomState(seed)
        content = bytearray(whole)
        for place in r.randint(0, min(len(whole), 300), 3):
            content[place] = r.randint(256)
        path.write_bytes(bytes(content[: r.randint(1, len(whole) + 1)]))
        try:
            decode(path)
        except GenclassError as error:
            refused += 1
            assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
    assert refused > 30
