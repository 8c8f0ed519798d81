"""Class lists and image lists: what they hold, and what is refused."""

from pathlib import Path

import pytest

from genclass.data.class_lists import ClassList
from genclass.data.image_list import ImageList, ImageRow
from genclass.errors import GenclassError

A = ImageRow("n1/a, b.jpg", "wrap/n1/a, b.jpg", 7, "a" * 64)
B = ImageRow("n2/ü.jpg", "wrap/n2/ü.jpg", 3, "b" * 64)


def test_the_packaged_lists() -> None:
    imagenet = ClassList.load("imagenet")
    assert imagenet.class_ids == list(range(1000))
    assert list(imagenet.by_folder) == sorted(imagenet.by_folder)  # ids are in order of the wnids
    assert imagenet.by_folder["n01440764"] == 0 and imagenet.entries[999].name == "toilet_tissue"
    digits = ClassList.load("digits")
    assert digits.by_folder == {f"digit-{i}": i for i in range(10)}
    assert [entry.name for entry in digits.entries[:3]] == ["zero", "one", "two"]


def test_a_list_of_the_users(tmp_path: Path) -> None:
    path = tmp_path / "pets.csv"
    path.write_text("class_id,folder,name\n281,cats,tabby\n207,dogs,golden retriever\n")
    pets = ClassList.load(path)
    assert pets.class_ids == [207, 281] and pets.by_folder == {"cats": 281, "dogs": 207}
    assert ClassList.load(str(path)) == pets


def test_an_unknown_list() -> None:
    with pytest.raises(
        GenclassError, match="unknown class list 'imagnet': did you mean 'imagenet'"
    ):
        ClassList.load("imagnet")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a class list begins with the line class_id,folder,name"),
        ("id,wnid\n0,n0\n", "a class list begins with the line class_id,folder,name"),
        ("class_id,folder,name\n", "the class list is empty"),
        ("class_id,folder,name\n0,n0,x\nzero,n1,y\n", "line 3 is 'zero,n1,y': expected class_id,"),
        ("class_id,folder,name\n0,n0\n", "line 2 is '0,n0': expected class_id,"),
        ("class_id,folder,name\n0,,x\n", "line 2 is '0,,x': expected"),
        ("class_id,folder,name\n4,a,x\n4,b,y\n", "class_id 4 stands there 2 times: keep one"),
        ("class_id,folder,name\n4,a,x\n5,a,y\n", "folder a stands there 2 times: keep one"),
    ],
)
def test_wrong_lists(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(text)
    with pytest.raises(GenclassError, match=rf"mine\.csv: {message}"):
        ClassList.load(path)


def test_a_list_that_is_missing_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(GenclassError, match=r"mine\.csv: cannot read the class list: No such"):
        ClassList.load(tmp_path / "mine.csv")
    (tmp_path / "mine.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(GenclassError, match=r"mine\.csv: no CSV file"):
        ClassList.load(tmp_path / "mine.csv")


def test_image_lists_are_read_as_written_and_have_one_text(tmp_path: Path) -> None:
    images = ImageList((A, B))
    images.write(tmp_path / "new folder" / "list.csv")
    assert ImageList.read(tmp_path / "new folder" / "list.csv") == images
    assert list((tmp_path / "new folder").iterdir()) == [tmp_path / "new folder" / "list.csv"]
    assert (tmp_path / "new folder" / "list.csv").read_text(encoding="utf-8") == (
        "image_id,path,class_id,sha256\n"
        f'"n1/a, b.jpg","wrap/n1/a, b.jpg",7,{"a" * 64}\n'
        f"n2/ü.jpg,wrap/n2/ü.jpg,3,{'b' * 64}\n"
    )
    assert len(images) == 2 and images.rows[1:] == (B,)
    assert images.sha256 == ImageList((A, B)).sha256 != ImageList((B, A)).sha256


def test_an_id_is_given_once() -> None:
    with pytest.raises(GenclassError, match=r"2 images are called n1/a, b\.jpg: keep one"):
        ImageList((A, B, A))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no image list: delete it and rerun"),
        ("a,b\n1,2\n", "no image list: delete it and rerun"),
        (f"image_id,path,class_id,sha256\na,a,one,{'a' * 64}\n", "line 2 is no row of an image"),
        ("image_id,path,class_id,sha256\na,a,1,abc\n", "line 2 is no row of an image list"),
        ("image_id,path,class_id,sha256\na,a\n", "line 2 is no row of an image list"),
        ("image_id,path,class_id,sha256\n" + f"a,a,1,{'a' * 64}\n" * 3, "3 images are called a"),
    ],
)
def test_wrong_image_lists(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(GenclassError, match=rf"list\.csv: {message}"):
        ImageList.read(tmp_path / "list.csv")


def test_a_missing_image_list(tmp_path: Path) -> None:
    with pytest.raises(GenclassError, match=r"list\.csv: cannot read the image list: No such file"):
        ImageList.read(tmp_path / "list.csv")
