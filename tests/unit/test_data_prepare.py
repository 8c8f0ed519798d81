"""Prepare: every layout, the subset rule, and what is said of a dataset that is not whole."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from genclass.config import Dataset
from genclass.data.class_lists import ClassEntry, ClassList
from genclass.data.image_list import ImageList
from genclass.data.images import load_image
from genclass.data.prepare import prepare as prepare_in_order
from genclass.errors import GenclassError
from genclass.specs.dataset import candidates
from tests.support.image_folders import NAMES, devkit, put

IMAGENET = ClassList.load("imagenet")
# Ids in another order than the folders, as no real list has them.
PETS = ClassList("pets", (ClassEntry(5, "a-cats", "cat"), ClassEntry(2, "b-dogs", "dog")))


def dataset(images: int, **options: Any) -> Dataset:
    return Dataset(places=["file:x"], licence="none", title="Test", images=images, **options)


def prepare(name: str, section: Dataset, folder: Path, class_list: ClassList) -> ImageList:
    return prepare_in_order(name, section, folder, class_list, seed=0)


def ids(images: ImageList) -> list[str]:
    return sorted(row.image_id for row in images.rows)


def labels(images: ImageList) -> dict[str, int]:
    return {row.image_id: row.class_id for row in images.rows}


def pets(folder: Path) -> Path:
    return put(
        folder, "b-dogs/1.jpg", "a-cats/b.JPEG", "a-cats/a.png", "a-cats/C.jpg", "b-dogs/0.png"
    )


def test_every_image_has_its_row(tmp_path: Path) -> None:
    images = prepare("pets", dataset(5), pets(tmp_path), PETS)
    assert labels(images) == {
        "a-cats/C.jpg": 5,
        "a-cats/a.png": 5,
        "a-cats/b.JPEG": 5,
        "b-dogs/0.png": 2,
        "b-dogs/1.jpg": 2,
    }
    for row in images.rows:
        assert hashlib.sha256((tmp_path / row.path).read_bytes()).hexdigest() == row.sha256
        assert load_image(tmp_path, row).size == (9, 8)


def test_the_order_is_a_function_of_the_seed_and_the_ids_alone(tmp_path: Path) -> None:
    def order(name: str, folder: Path, images: int, seed: int) -> list[str]:
        made = prepare_in_order(name, dataset(images), folder, PETS, seed=seed)
        return [row.image_id for row in made.rows]

    first = order("pets", pets(tmp_path / "a"), 5, 7)
    assert first == sorted(first, key=lambda i: hashlib.sha256(f"7\0{i}".encode()).hexdigest())
    assert order("other", pets(tmp_path / "b" / "wrapped"), 5, 7) == first
    assert any(order("pets", tmp_path / "a", 5, seed) != first for seed in range(3))
    put(tmp_path / "a", "a-cats/inserted.png")  # moves no other
    more = order("pets", tmp_path / "a", 6, 7)
    assert [image for image in more if image != "a-cats/inserted.png"] == first


def test_severities_keep_their_images_together(tmp_path: Path) -> None:
    put(tmp_path, *(f"fog/{s}/n01440764/{i}.JPEG" for s in (1, 2) for i in range(9)))
    orders = []
    for severity in (1, 2):
        section = dataset(
            9, layout="imagenet_c", candidates="present", corruption="fog", severity=severity
        )
        rows = prepare(f"fog-{severity}", section, tmp_path, IMAGENET).rows
        orders.append([row.image_id for row in rows])
    assert orders[0] == orders[1] != sorted(orders[0])


def test_the_subset_is_the_first_n_of_each_class(tmp_path: Path) -> None:
    images = prepare("pets", dataset(4, images_per_class=2), pets(tmp_path), PETS)
    assert ids(images) == ["a-cats/C.jpg", "a-cats/a.png", "b-dogs/0.png", "b-dogs/1.jpg"]


def test_of_an_incomplete_set_the_first_n_would_be_others(tmp_path: Path) -> None:
    whole = dataset(4, images_per_class=2, total_images=5)
    assert len(prepare("pets", whole, pets(tmp_path), PETS)) == 4
    (tmp_path / "a-cats" / "C.jpg").unlink()
    assert len(prepare("pets", dataset(4, images_per_class=2), tmp_path, PETS)) == 4
    with pytest.raises(GenclassError, match=r"has 4 images, the whole set 5: .*complete it"):
        prepare("pets", whole, tmp_path, PETS)


def test_only_the_images_of_the_subset_are_decoded(tmp_path: Path) -> None:
    (pets(tmp_path) / "a-cats" / "b.JPEG").write_bytes(b"broken")
    assert len(prepare("pets", dataset(4, images_per_class=2), tmp_path, PETS)) == 4


def test_a_wrapping_folder_changes_no_id(tmp_path: Path) -> None:
    bare = prepare("pets", dataset(5), pets(tmp_path / "bare"), PETS)
    pets(tmp_path / "wrapped" / "pets-v2" / "images")
    (tmp_path / "wrapped" / "README.md").write_text("pets")
    wrapped = prepare("pets", dataset(5), tmp_path / "wrapped", PETS)
    assert ids(wrapped) == ids(bare)
    assert {row.path for row in wrapped.rows} == {f"pets-v2/images/{i}" for i in ids(bare)}


def test_noise_is_passed_over(tmp_path: Path) -> None:
    pets(tmp_path)
    for name in (".DS_Store", "README", "a-cats/Thumbs.db", "a-cats/._a.png", "b-dogs/urls.txt"):
        (tmp_path / name).write_bytes(b"x")
    for name in (".cache", "__MACOSX"):
        put(tmp_path / name, "x.jpg")
    assert len(prepare("pets", dataset(5), tmp_path, PETS)) == 5


@pytest.mark.parametrize("name", ["a-cats/b.gif", "a-cats/video.mp4", "archive.tar", "0.jpg"])
def test_a_file_that_does_not_belong_is_named(tmp_path: Path, name: str) -> None:
    (pets(tmp_path) / name).write_bytes(b"x")
    with pytest.raises(GenclassError, match=f"^dataset pets: neither an image .*{name}: move it"):
        prepare("pets", dataset(5), tmp_path, PETS)


def test_a_folder_inside_a_class_is_named(tmp_path: Path) -> None:
    put(pets(tmp_path), "a-cats/more/1.jpg")
    with pytest.raises(GenclassError, match=r"nor a class folder: .*a-cats/more: move it"):
        prepare("pets", dataset(5), tmp_path, PETS)


def test_a_folder_that_is_no_class(tmp_path: Path) -> None:
    put(pets(tmp_path), "c-dog/1.jpg")
    with pytest.raises(GenclassError, match="no class of 'pets': c-dog: did you mean 'b-dogs'"):
        prepare("pets", dataset(5), tmp_path, PETS)


def test_the_only_folder_is_no_class(tmp_path: Path) -> None:
    put(tmp_path, "cat/1.jpg")
    with pytest.raises(GenclassError, match="no class of 'pets': cat: did you mean 'a-cats'"):
        prepare("pets", dataset(1), tmp_path, PETS)


def test_many_unknown_folders_make_one_short_line(tmp_path: Path) -> None:
    put(tmp_path, *(f"kind {i}/1.jpg" for i in range(9)))
    with pytest.raises(GenclassError, match=r"kind 4 and 4 more: rename or move it, or") as caught:
        prepare("x", dataset(9), tmp_path, IMAGENET)
    assert len(str(caught.value)) < 300


def test_no_images(tmp_path: Path) -> None:
    with pytest.raises(GenclassError, match=r"^dataset pets: .*: there are no images"):
        prepare("pets", dataset(5), tmp_path, PETS)
    (tmp_path / "a-cats").mkdir()
    with pytest.raises(GenclassError, match="there are no images"):
        prepare("pets", dataset(5), tmp_path, PETS)
    with pytest.raises(GenclassError, match="gone: the dataset's folder is missing"):
        prepare("pets", dataset(5), tmp_path / "gone", PETS)


def test_a_missing_class(tmp_path: Path) -> None:
    put(tmp_path, "a-cats/1.jpg")
    message = (
        r"1 of 2 classes have fewer than 1 image: b-dogs \(0\): .*or set `candidates: present`"
    )
    with pytest.raises(GenclassError, match=message):
        prepare("pets", dataset(1), tmp_path, PETS)
    images = prepare("pets", dataset(1, candidates="present"), tmp_path, PETS)
    assert candidates(dataset(1, candidates="present"), images, PETS) == [5]
    assert candidates(dataset(1), images, PETS) == [2, 5]


def test_too_few_images_of_a_class(tmp_path: Path) -> None:
    message = r"1 of 2 classes have fewer than 3 images: b-dogs \(2\): complete the folder"
    for which in ("all", "present"):
        with pytest.raises(GenclassError, match=message):
            prepare("pets", dataset(6, images_per_class=3, candidates=which), pets(tmp_path), PETS)


def test_another_number_of_images(tmp_path: Path) -> None:
    with pytest.raises(GenclassError, match=r"found 5 images to evaluate, expected 7: .*`images:`"):
        prepare("pets", dataset(7), pets(tmp_path), PETS)


def test_unreadable_images_are_listed(tmp_path: Path) -> None:
    pets(tmp_path)
    whole = (tmp_path / "b-dogs" / "1.jpg").read_bytes()
    (tmp_path / "b-dogs" / "1.jpg").write_bytes(whole[:-40])
    (tmp_path / "a-cats" / "a.png").write_bytes(b"x")
    message = r"2 unreadable: .*a\.png: no image.*; .*1\.jpg: unreadable image: .*: restore these"
    with pytest.raises(GenclassError, match=message):
        prepare("pets", dataset(5), tmp_path, PETS)
    for i in range(10):
        (tmp_path / "a-cats" / f"z{i}.jpg").write_bytes(b"x")
    with pytest.raises(GenclassError, match=r"12 unreadable: .* and 7 more: restore") as caught:
        prepare("pets", dataset(15), tmp_path, PETS)
    assert "\n" not in str(caught.value)


def test_two_hundred_classes_are_two_hundred_candidates(tmp_path: Path) -> None:
    chosen = IMAGENET.entries[3::5]
    put(tmp_path, *(f"imagenet-r/{entry.folder}/art_0.jpg" for entry in chosen))
    two_hundred = dataset(200, candidates="present")
    images = prepare("r", two_hundred, tmp_path, IMAGENET)
    assert candidates(two_hundred, images, IMAGENET) == list(range(3, 1000, 5))


def test_numeric_folders_are_numbers(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    put(plain, *(f"v2-format-val/{i}/x{i}.jpeg" for i in (10, 2, 999, 0)))
    numeric = dataset(4, layout="numeric_folders", candidates="present")
    images = prepare("v2", numeric, plain, IMAGENET)
    assert labels(images) == {f"{i}/x{i}.jpeg": i for i in (0, 2, 10, 999)}
    padded = tmp_path / "padded"
    put(padded, *(f"{i:04}/x{i}.jpeg" for i in (10, 2, 999, 0)))
    assert labels(prepare("v2", numeric, padded, IMAGENET)) == labels(images)
    put(padded, "02/x.jpeg")
    with pytest.raises(GenclassError, match="the folders 0002, 02 all are class 2: keep one"):
        prepare("v2", numeric, padded, IMAGENET)
    put(plain / "v2-format-val", "1000/x.jpeg")
    with pytest.raises(GenclassError, match="no class of 'imagenet': 1000: did you mean '100'"):
        prepare("v2", numeric, plain, IMAGENET)


def test_imagenet_c(tmp_path: Path) -> None:
    put(tmp_path, *(f"{kind}/{s}/n01440764/1.JPEG" for kind in ("fog", "snow") for s in (1, 2, 3)))

    def corrupted(**options: Any) -> Dataset:
        return dataset(1, layout="imagenet_c", candidates="present", **options)

    images = prepare("fog-2", corrupted(corruption="fog", severity=2), tmp_path, IMAGENET)
    assert [(row.image_id, row.path, row.class_id) for row in images.rows] == [
        ("n01440764/1.JPEG", "fog/2/n01440764/1.JPEG", 0)
    ]
    with pytest.raises(GenclassError, match=r"no folder 'rain', only fog, snow: .*`corruption:`"):
        prepare("c", corrupted(corruption="rain", severity=2), tmp_path, IMAGENET)
    with pytest.raises(
        GenclassError, match=r"fog: there is no folder '5', only 1, 2, 3: .*`severity:`"
    ):
        prepare("c", corrupted(corruption="fog", severity=5), tmp_path, IMAGENET)
    with pytest.raises(GenclassError, match="imagenet_c needs `corruption:` and `severity:`"):
        prepare("c", corrupted(corruption="fog"), tmp_path, IMAGENET)


VAL = {"layout": "imagenet_val", "candidates": "present", "images_per_class": 1}


def test_imagenet_val_from_the_official_tar_or_as_folders_is_the_same(tmp_path: Path) -> None:
    devkit(put(tmp_path / "flat", *NAMES[1:]), "3\n1\n1\n2\n2\n")
    flat = prepare("val", dataset(3, **VAL), tmp_path / "flat", IMAGENET)
    assert labels(flat) == {NAMES[4]: 0, NAMES[1]: 1, NAMES[2]: 278}
    wnids = ["n01443537", "n02119789", "n02119789", "n01440764", "n01440764"]
    for wnid, name in zip(wnids, NAMES[1:], strict=True):
        target = tmp_path / "folders" / "val" / wnid / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((tmp_path / "flat" / name).read_bytes())
    folders = prepare("val", dataset(3, **VAL), tmp_path / "folders", IMAGENET)
    expected = [(r.image_id, r.class_id, r.sha256) for r in flat.rows]
    assert [(r.image_id, r.class_id, r.sha256) for r in folders.rows] == expected

    # Another usual copy has the wnids in the names; flat, it needs no devkit.
    for wnid, name in zip(wnids, NAMES[1:], strict=True):
        content = (tmp_path / "flat" / name).read_bytes()
        for folder in ("copy", f"copies/{wnid}"):
            target = tmp_path / folder / f"{Path(name).stem}_{wnid}.JPEG"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
    for folder in ("copy", "copies"):
        found = prepare("val", dataset(3, **VAL), tmp_path / folder, IMAGENET)
        assert [(r.image_id, r.class_id, r.sha256) for r in found.rows] == expected


def test_imagenet_val_that_is_wrong(tmp_path: Path) -> None:
    flat = put(tmp_path / "flat", *NAMES[1:3])
    with pytest.raises(GenclassError, match=r"ground_truth.txt is missing: .*unpack it in there"):
        prepare("val", dataset(2, **VAL), flat, IMAGENET)
    kit = devkit(flat, "3\n")
    with pytest.raises(GenclassError, match=f"no image of ImageNet val: .*{NAMES[2]}: move it"):
        prepare("val", dataset(2, **VAL), flat, IMAGENET)
    devkit(flat, "3\n1001\n")
    with pytest.raises(GenclassError, match=r"ground_truth\.txt: line 2 is '1001', no class"):
        prepare("val", dataset(2, **VAL), flat, IMAGENET)
    (kit / "ILSVRC2012_devkit_t12" / "data" / "meta.mat").write_bytes(b"cut")
    with pytest.raises(GenclassError, match=r"meta\.mat: cannot read the classes of the devkit"):
        prepare("val", dataset(2, **VAL), flat, IMAGENET)


def test_one_file_name_in_two_classes_of_val(tmp_path: Path) -> None:
    put(tmp_path, f"n01440764/{NAMES[1]}", f"n01443537/{NAMES[1]}")
    with pytest.raises(GenclassError, match=f"^dataset val: .*: 2 images are called {NAMES[1]}: k"):
        prepare("val", dataset(2, **VAL), tmp_path, IMAGENET)


def test_val_that_is_numbered_anew_in_every_class(tmp_path: Path) -> None:
    put(tmp_path, "n01440764/00000.JPEG", "n01443537/00000.JPEG")
    with pytest.raises(
        GenclassError,
        match=r"2 images are called 00000\.JPEG: give them the names of the official tar "
        r"\(ILSVRC2012_val_00000001\.JPEG\), or set `layout: image_folder`",
    ):
        prepare("val", dataset(2, **VAL), tmp_path, IMAGENET)
    folders = dataset(2, candidates="present")
    assert ids(prepare("val", folders, tmp_path, IMAGENET)) == [
        "n01440764/00000.JPEG",
        "n01443537/00000.JPEG",
    ]


def test_the_tree_of_kaggle_has_its_validation_set_inside(tmp_path: Path) -> None:
    inner = "ILSVRC/Data/CLS-LOC"
    put(tmp_path, f"{inner}/val/{NAMES[1]}", f"{inner}/train/n01440764/1.JPEG")
    (tmp_path / "ILSVRC" / "Annotations").mkdir()
    (tmp_path / "LOC_val_solution.csv").write_text("x")
    for layout in ("imagenet_val", "image_folder"):
        with pytest.raises(
            GenclassError,
            match=rf"no class of 'imagenet': .*: for its .*, name file:.*/{inner}/val",
        ):
            prepare("val", dataset(1, layout=layout), tmp_path, IMAGENET)


@pytest.mark.parametrize("name", [b"caf\xe9.png", b"a\rb.png", b"a\nb.png", b"a\x1bb.png"])
def test_a_name_that_no_list_can_hold_is_shown(tmp_path: Path, name: bytes) -> None:
    (pets(tmp_path) / "a-cats" / "a.png").rename(tmp_path / "a-cats" / os.fsdecode(name))
    with pytest.raises(GenclassError) as error:
        prepare("pets", dataset(5), tmp_path, PETS)
    shown = ascii(os.fsdecode(b"a-cats/" + name))
    assert str(error.value) == (
        f"dataset pets: {tmp_path}: the name {shown} has control characters or is not UTF-8: "
        "rename the file or folder"
    )


def test_names_of_other_scripts_stay(tmp_path: Path) -> None:
    put(tmp_path, 'a-cats/猫\u3000ü [1], "x".png', "b-dogs/=1+1.png")
    images = prepare("pets", dataset(2), tmp_path, PETS)
    images.write(tmp_path / "list.csv")
    assert ImageList.read(tmp_path / "list.csv") == images


OBJECTNET = {"layout": "objectnet", "candidates": "present"}


def objectnet(folder: Path) -> Path:
    root = folder / "objectnet-1.0"
    put(root / "images", "chair/2.png", "squeegee/1.png", "backpack/9.png", "chair/1.png")
    labels = {"chair": "Chair", "squeegee": "Squeegee", "backpack": "Backpack", "wok": "Wok"}
    to_imagenet = {
        "Chair": "barber chair; folding chair; rocking chair, rocker",
        "Backpack": "backpack, back pack, knapsack, packsack, rucksack, haversack",
        "Wok": "wok",
    }
    (root / "mappings").mkdir()
    (root / "mappings" / "folder_to_objectnet_label.json").write_text(json.dumps(labels))
    (root / "mappings" / "objectnet_to_imagenet_1k.json").write_text(json.dumps(to_imagenet))
    return folder


def test_objectnet_takes_the_overlap_under_the_first_imagenet_class(tmp_path: Path) -> None:
    images = prepare("objectnet", dataset(3, **OBJECTNET), objectnet(tmp_path), IMAGENET)
    assert labels(images) == {"backpack/9.png": 414, "chair/1.png": 423, "chair/2.png": 423}
    assert {row.path for row in images.rows} == {f"objectnet-1.0/images/{i}" for i in ids(images)}
    assert candidates(dataset(3, **OBJECTNET), images, IMAGENET) == [414, 423]
    border = dataset(3, **OBJECTNET).border
    assert (border, dataset(3).border) == (2, 0)
    assert load_image(tmp_path, images.rows[0], border).size == (5, 4)


def test_objectnet_that_is_wrong(tmp_path: Path) -> None:
    root = objectnet(tmp_path) / "objectnet-1.0"
    put(root / "images", "chaise/1.png")
    with pytest.raises(
        GenclassError, match="no class of 'ObjectNet': chaise: did you mean 'chair'"
    ):
        prepare("objectnet", dataset(4, **OBJECTNET), tmp_path, IMAGENET)
    with pytest.raises(GenclassError, match="'barber_chair', which the class list 'pets' lacks"):
        prepare("objectnet", dataset(4, **OBJECTNET), tmp_path, PETS)
    (root / "mappings" / "objectnet_to_imagenet_1k.json").write_text("{")
    with pytest.raises(GenclassError, match=r"imagenet_1k\.json: no JSON: .*: unpack the archive"):
        prepare("objectnet", dataset(4, **OBJECTNET), tmp_path, IMAGENET)
    (root / "mappings" / "objectnet_to_imagenet_1k.json").unlink()
    with pytest.raises(GenclassError, match="cannot read ObjectNet's mapping: No such file"):
        prepare("objectnet", dataset(4, **OBJECTNET), tmp_path, IMAGENET)
