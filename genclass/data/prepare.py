"""Prepare: from a dataset's folder to its image list, with everything that may be wrong said.

Which images: class folders sorted by name (numbered ones by number), in each the images sorted by
name; of each class the first `images_per_class`, as in the official code. Their order then is a
random one, by the image's id: the first rows are a fair sample, for any number of rows.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genclass.config import Selection
from genclass.data.class_lists import ClassList
from genclass.data.image_list import ImageList, ImageRow, is_writable
from genclass.data.images import decode_bytes, read_bytes
from genclass.errors import GenclassError
from genclass.files import reason_of
from genclass.sources import Progress
from genclass.text import did_you_mean

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".webp")
# What comes along with the images in an archive. Names that start with a dot are passed over too.
NOISE = re.compile(
    r"(README|LICENSE).*|Thumbs\.db|desktop\.ini|__MACOSX|.*\.(txt|md|json|csv)", re.IGNORECASE
)
# As in the official tar, or with the wnid behind the number, as in other copies.
VALIDATION_NAME = re.compile(r"ILSVRC2012_val_(\d{8})(?:_(n\d{8}))?(\.\w+)", re.IGNORECASE)


@dataclass(frozen=True)
class _ClassImages:
    """The images of one class, sorted."""

    class_id: int
    images: list[Path]


def prepare(
    name: str, dataset: Selection, folder: str | Path, class_list: ClassList, seed: int
) -> ImageList:
    """The image list of a dataset that lies unpacked in `folder`, by its layout:

    - image_folder: class folders, named as in the class list.
    - numeric_folders: class folders that are named by class id (ImageNetV2), padded or not.
    - imagenet_c: `corruption/severity/` and therein class folders.
    - imagenet_val: class folders, or the official flat folder; its labels are the wnids in the
      files' names, or read from the unpacked ILSVRC2012_devkit_t12, anywhere inside `folder`.
    - objectnet: `images/` with ObjectNet's own class folders and `mappings/`. Only its 113
      classes that overlap with ImageNet are taken. Nine of them stand for two or three ImageNet
      classes ("Chair": barber chair, folding chair, rocking chair): the label is the first that
      ObjectNet names, so with `candidates: present` the task is 113-way, one ImageNet class each.
      (Elsewhere, as in Diffusion Classifier, the best of several counts; that is a little easier.)

    Folders that wrap the dataset and hold nothing else are looked through. An image's id is
    `class folder/file name`, for imagenet_val the official file name: both are the same for an
    archive and for a folder of the user's. Every image of the list is decoded once.

    The rows are sorted by sha256 of the seed and the image's id, and of nothing else: severities
    of one corruption keep their images together, and an inserted image moves no other.

    Raises:
        GenclassError: a folder that is no known class, a file that is no image or that no list can
            name (control characters, not UTF-8), two images of one id, classes without
            (enough) images, another number of images than `dataset.total_images` (all) or
            `dataset.images` (of the subset), unreadable images.
    """
    folder = Path(folder)
    try:
        if not folder.is_dir():
            raise GenclassError(
                f"{folder}: the dataset's folder is missing: bring it back: genclass fetch"
            )
        classes = _classes(dataset, folder, class_list)
        if not any(found.images for found in classes):
            raise GenclassError(f"{folder}: there are no images ({', '.join(IMAGE_SUFFIXES)})")
        _check_every_class(dataset, folder, class_list, classes)
        whole = sum(len(found.images) for found in classes)
        if dataset.total_images not in (None, whole):
            raise GenclassError(
                f"{folder}: has {whole} images, the whole set {dataset.total_images}: the first of "
                f"each class may be others: complete it, or correct `total_images:`"
            )
        chosen = [
            (image, found.class_id)
            for found in classes
            for image in found.images[: dataset.images_per_class]
        ]
        if len(chosen) != dataset.images:
            raise GenclassError(
                f"{folder}: found {len(chosen)} images to evaluate, expected {dataset.images}: "
                f"complete the folder or, if it is whole, correct `images:` in the config"
            )
        ids = _ids(dataset, folder, chosen)
        hashes = _checked_hashes(name, [image for image, _ in chosen], dataset.border)
        rows = (
            ImageRow(image_id, image.relative_to(folder).as_posix(), class_id, sha256)
            for image_id, (image, class_id), sha256 in zip(ids, chosen, hashes, strict=True)
        )
        return ImageList(tuple(rows)).ordered(seed)
    except GenclassError as error:
        raise GenclassError(f"dataset {name}: {error}") from None


def _ids(dataset: Selection, folder: Path, chosen: Sequence[tuple[Path, int]]) -> list[str]:
    """The id of each image; raises GenclassError if one is no text, or belongs to two images."""
    by_name = dataset.layout == "imagenet_val"
    ids = []
    for image, class_id in chosen:
        inside = image.relative_to(folder).as_posix()
        if not is_writable(inside):
            raise GenclassError(
                f"{folder}: the name {inside!a} has control characters or is not UTF-8: "
                "rename the file or folder"
            )
        parent = str(class_id) if dataset.layout == "numeric_folders" else image.parent.name
        ids.append(_official_name(image) if by_name else f"{parent}/{image.name}")
    [(image_id, count)] = Counter(ids).most_common(1)
    if count > 1:
        remedy = "keep one"
        if by_name and not VALIDATION_NAME.fullmatch(image_id):
            remedy = (
                f"give them the names of the official tar ({_OFFICIAL_NAME.format('00000001')}), "
                "or set `layout: image_folder`, which tells them apart by their folders"
            )
        raise GenclassError(f"{folder}: {count} images are called {image_id}: {remedy}")
    return ids


_OFFICIAL_NAME = "ILSVRC2012_val_{}.JPEG"


def _official_name(image: Path) -> str:
    """What the official tar calls an image of ImageNet val; other names stay as they are."""
    match = VALIDATION_NAME.fullmatch(image.name)
    return _OFFICIAL_NAME.format(match[1]) if match else image.name


def _classes(dataset: Selection, folder: Path, class_list: ClassList) -> list[_ClassImages]:
    """Every class that has a folder (or an image), in the order of the image list."""
    by_folder = class_list.by_folder
    if dataset.layout == "numeric_folders":
        by_number = _by_number(folder, class_list)
        return _class_folders(folder, by_number, class_list.name, lambda found: int(found.name))
    if dataset.layout == "imagenet_c":
        return _class_folders(_imagenet_c(folder, dataset), by_folder, class_list.name)
    if dataset.layout == "objectnet":
        root = _unwrapped(folder, {"mappings"})
        return _class_folders(root / "images", _objectnet(root, class_list), "ObjectNet")
    if dataset.layout == "imagenet_val":
        folders, files = _listing(_unwrapped(folder, by_folder))
        if any(map(_is_image, files)) and not any(f.name in by_folder for f in folders):
            return _flat_validation(files, folder, by_folder)
    return _class_folders(folder, by_folder, class_list.name)


def _by_number(folder: Path, class_list: ClassList) -> dict[str, int]:
    """Class ids by what stands for them: `7`, and the names of folders such as `0007`."""
    by_number = {str(class_id): class_id for class_id in class_list.class_ids}
    padded: dict[str, int] = {}
    for found in _listing(_unwrapped(folder, _Numbers()))[0]:
        if re.fullmatch("[0-9]{1,9}", found.name) and str(int(found.name)) in by_number:
            padded[found.name] = int(found.name)
    [(class_id, count)] = Counter(padded.values()).most_common(1) or [(0, 0)]
    if count > 1:
        names = [name for name in padded if padded[name] == class_id]
        raise GenclassError(
            f"{folder}: the folders {_some(names)} all are class {class_id}: keep one"
        )
    return by_number | padded


class _Numbers(Container[str]):
    """All names that are numbers."""

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and re.fullmatch("[0-9]+", name) is not None


def _class_folders(
    folder: Path,
    class_ids: Mapping[str, int | None],
    list_name: str,
    order: Callable[[Path], Any] = lambda found: found.name,
) -> list[_ClassImages]:
    """Class folders by their names; those whose class id is None are passed over."""
    root = _unwrapped(folder, class_ids)
    folders, extra = _listing(root)
    if not folders and any(map(_is_image, extra)):  # `root` itself is a class, of a wrong name
        folders, extra = [root], []
    unknown = [found.name for found in folders if found.name not in class_ids]
    if unknown:
        raise GenclassError(
            f"{folder}: no class of '{list_name}': {_some(unknown)}: "
            + (_inner_hint(root) or _hint(unknown[0], class_ids))
        )
    classes = []
    for found in sorted(folders, key=order):
        class_id = class_ids[found.name]
        if class_id is not None:
            inner, files = _listing(found)
            classes.append(_ClassImages(class_id, [file for file in files if _is_image(file)]))
            extra += inner + [file for file in files if not _is_image(file)]
    if extra:
        raise GenclassError(
            f"neither an image ({', '.join(IMAGE_SUFFIXES)}) nor a class folder: {_some(extra)}: "
            f"move it out of the dataset"
        )
    return classes


def _imagenet_c(folder: Path, dataset: Selection) -> Path:
    if dataset.corruption is None or dataset.severity is None:
        raise GenclassError("the layout imagenet_c needs `corruption:` and `severity:`")
    corruption, severity = dataset.corruption, str(dataset.severity)
    root = _unwrapped(folder, {corruption})
    for key, value in (("corruption", corruption), ("severity", severity)):
        names = [found.name for found in _listing(root)[0]]
        if value not in names:
            raise GenclassError(
                f"{root}: there is no folder '{value}', only {_some(names) or 'none'}: complete "
                f"it, or correct `{key}:`"
            )
        root /= value
    return root


def _objectnet(root: Path, class_list: ClassList) -> dict[str, int | None]:
    """ImageNet's class id of each of ObjectNet's folders; None where it has none.

    `objectnet_to_imagenet_1k.json` gives full ImageNet names, joined by "; ", e.g. "backpack, back
    pack; ..."; a class list has the first word of each, "backpack".
    """
    labels = _read_mapping(root / "mappings" / "folder_to_objectnet_label.json")
    to_imagenet = _read_mapping(root / "mappings" / "objectnet_to_imagenet_1k.json")
    by_name = {entry.name: entry.class_id for entry in class_list.entries}
    class_ids: dict[str, int | None] = {}
    for found, label in labels.items():
        class_ids[found] = None
        if label in to_imagenet:
            first = to_imagenet[label].split(";")[0].split(",")[0].strip().replace(" ", "_")
            if first not in by_name:
                raise GenclassError(
                    f"{root / 'mappings'}: '{label}' is ImageNet's '{first}', which the class list "
                    f"'{class_list.name}' lacks: correct `labels:`"
                )
            class_ids[found] = by_name[first]
    return class_ids


def _read_mapping(path: Path) -> dict[str, str]:
    try:
        mapping = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise GenclassError(
            f"{path}: cannot read ObjectNet's mapping: {reason_of(error)}"
        ) from None
    except ValueError as error:
        raise GenclassError(f"{path}: no JSON: {error}: unpack the archive again") from None
    if not isinstance(mapping, dict) or not all(isinstance(v, str) for v in mapping.values()):
        raise GenclassError(f"{path}: no mapping of names: unpack the archive again")
    return mapping


def _flat_validation(
    files: Sequence[Path], folder: Path, by_wnid: Mapping[str, int]
) -> list[_ClassImages]:
    """The flat folder: labels are in the names, or image i has that of line i of the truth."""
    matches = [VALIDATION_NAME.fullmatch(file.name) for file in files]
    named = all(match and match[2] in by_wnid for match in matches)
    labels = [] if named else _validation_labels(folder, by_wnid)
    images: dict[str, list[Path]] = {wnid: [] for wnid in sorted(by_wnid)}
    extra = []
    for file, match in zip(files, matches, strict=True):
        if match and named:
            images[match[2]].append(file)
        elif match and 1 <= int(match[1]) <= len(labels):
            images[labels[int(match[1]) - 1]].append(file)
        else:
            extra.append(file)
    if extra:
        raise GenclassError(f"no image of ImageNet val: {_some(extra)}: move it out of the dataset")
    return [_ClassImages(by_wnid[wnid], images[wnid]) for wnid in images if images[wnid]]


def _validation_labels(folder: Path, by_wnid: Mapping[str, int]) -> list[str]:
    """The wnid of each validation image, by the development kit of ILSVRC2012."""
    truth = next(folder.rglob("ILSVRC2012_validation_ground_truth.txt"), None)
    if truth is None:
        raise GenclassError(
            f"{folder}: ILSVRC2012_validation_ground_truth.txt is missing: the flat validation set "
            f"needs ILSVRC2012_devkit_t12: unpack it in there, or use an ImageFolder"
        )
    meta = truth.with_name("meta.mat")
    from scipy.io import loadmat  # takes its time; needed here only

    try:
        synsets = loadmat(meta, squeeze_me=True)["synsets"]
        wnids = {int(s["ILSVRC2012_ID"]): str(s["WNID"]) for s in synsets}
    except Exception as error:  # SciPy raises whatever a damaged file leads to
        raise GenclassError(
            f"{meta}: cannot read the classes of the devkit ({type(error).__name__}): unpack it "
            f"again"
        ) from None
    labels = []
    for number, line in enumerate(truth.read_text(encoding="utf-8").splitlines(), start=1):
        wnid = wnids.get(int(line), "") if line.strip().isdecimal() else ""
        if wnid not in by_wnid:
            raise GenclassError(
                f"{truth}: line {number} is '{line}', no class of the class list: correct "
                f"`labels:`, or unpack the devkit again"
            )
        labels.append(wnid)
    return labels


def _check_every_class(
    dataset: Selection, folder: Path, class_list: ClassList, classes: Sequence[_ClassImages]
) -> None:
    """All candidates have their images; without `candidates: all`, those that have a folder."""
    found = {c.class_id: len(c.images) for c in classes}
    folders = {entry.class_id: entry.folder for entry in class_list.entries}
    expected = class_list.class_ids if dataset.candidates == "all" else sorted(found)
    needed = dataset.images_per_class or 1
    missing = [f"{folders[i]} ({found.get(i, 0)})" for i in expected if found.get(i, 0) < needed]
    if missing:
        hint = "" if dataset.candidates == "present" else ", or set `candidates: present`"
        raise GenclassError(
            f"{folder}: {len(missing)} of {len(expected)} classes have fewer than {needed} "
            f"image{'s' if needed > 1 else ''}: {_some(missing)}: complete the folder{hint}"
        )


def _checked_hashes(name: str, images: Sequence[Path], border: int) -> list[str]:
    """The sha256 of each file, after it could be decoded."""

    def check(image: Path) -> str | GenclassError:
        try:
            content = read_bytes(image)
            decode_bytes(content, image, border)
        except GenclassError as error:
            return error
        return hashlib.sha256(content).hexdigest()

    checked: list[str | GenclassError] = []
    progress = Progress()
    with ThreadPoolExecutor() as pool:
        for result in pool.map(check, images):
            checked.append(result)
            progress.update(f"prepare {name}", len(checked), len(images), "images")
    progress.close()
    errors = [str(result) for result in checked if isinstance(result, GenclassError)]
    if errors:
        raise GenclassError(f"{len(errors)} unreadable: {_some(errors, '; ')}: restore these files")
    return [result for result in checked if isinstance(result, str)]


def _unwrapped(folder: Path, known: Container[str]) -> Path:
    """`folder`, or what it only wraps: the folder that has `known` folders, or images."""
    while True:
        folders, files = _listing(folder)
        arrived = any(found.name in known for found in folders) or any(map(_is_image, files))
        if arrived or len(folders) != 1:
            return folder
        folder = folders[0]


def _listing(folder: Path) -> tuple[list[Path], list[Path]]:
    """The folders and the files of a folder, sorted by name, without what is hidden and NOISE."""
    folders: list[Path] = []
    files: list[Path] = []
    try:
        with os.scandir(folder) as entries:  # tells folders without a look at each inode
            for entry in sorted(entries, key=lambda entry: entry.name):
                if not entry.name.startswith(".") and not NOISE.fullmatch(entry.name):
                    (folders if entry.is_dir() else files).append(folder / entry.name)
    except OSError as error:
        raise GenclassError(f"{folder}: cannot read the folder: {reason_of(error)}") from None
    return folders, files


def _is_image(file: Path) -> bool:
    return file.name.lower().endswith(IMAGE_SUFFIXES)


def _some(items: Sequence[object], separator: str = ", ") -> str:
    """The first five, and how many more."""
    more = f" and {len(items) - 5} more" if len(items) > 5 else ""
    return separator.join(map(str, items[:5])) + more


def _inner_hint(root: Path) -> str:
    """Where the validation set lies in a tree that holds more, such as that of Kaggle."""
    for pattern in ("val", "*/val", "*/*/val", "*/*/*/val"):
        for found in sorted(root.glob(pattern)):
            if found.is_dir():
                return f"for its validation set, name file:{found} in `places:`"
    return ""


def _hint(word: str, known: Iterable[str]) -> str:
    """`did_you_mean` without the whole of a long list."""
    hint = did_you_mean(word, known)
    return hint if len(hint) <= 120 else "rename or move it, or correct `labels:`"
