"""Class lists and image lists: what they hold, and what is refused."""

from pathlib import Path

import pytest

from genclass.data.class_lists import ClassEntry, ClassList
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
    with pytest.raises(GenclassError, match=r"mine\.csv: the class list is missing: correct"):
        ClassList.load(tmp_path / "mine.csv")
    for content in (b"\xff\xfe\x00", "class_id,folder,name\n1,a,ü\n".encode("latin-1")):
        (tmp_path / "mine.csv").write_bytes(content)
        with pytest.raises(GenclassError, match=r"mine\.csv: no CSV file in UTF-8 .*: save it as"):
            ClassList.load(tmp_path / "mine.csv")


def test_a_list_that_a_spreadsheet_program_saved(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_bytes("\ufeffclass_id,folder,name\r\n3,a,ü\r\n".encode())
    assert ClassList.load(path).entries == (ClassEntry(3, "a", "ü"),)


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("class_id;folder;name", ": its columns are separated by semicolons: save it with commas"),
        ("class_id\tfolder\tname", ": its columns are separated by tabs: save it with commas"),
        (",class_id,folder,name", ": remove a column without a name"),
        ("class_id,folder,name,n", ": remove n"),
        ("folder,class_id,name", ": put the columns in that order"),
        ("0,n0,x", ""),
    ],
)
def test_another_first_line_is_shown(tmp_path: Path, header: str, found: str) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(f"{header}\n0,n0,x\n")
    with pytest.raises(GenclassError) as error:
        ClassList.load(path)
    assert str(error.value) == (
        f"{path}: a class list begins with the line class_id,folder,name, this one with "
        f"{header!r}{found}"
    )


def test_image_lists_are_read_as_written_and_have_one_text(tmp_path: Path) -> None:
    images = ImageList((A, B))
    images.write(tmp_path / "new folder" / "list.csv")
    assert ImageList.read(tmp_path / "new folder" / "list.csv") == images
    assert list((tmp_path / "new folder").iterdir()) == [tmp_path / "new folder" / "list.csv"]
    assert (tmp_path / "new folder" / "list.csv").read_text(encoding="utf-8") == (
        "image_id,path,class_id,sha256\n"
        f'"n1/a, b.jpg","wrap/n1/a, b.jpg",7,{"a" * 64}\n'
        f"n2/ü.jpg,wrap/n2/ü.jpg,3,{'b' * 64}\n"
        f",,2,{images.sha256}\n"
    )
    assert len(images) == 2 and images.rows[1:] == (B,)
    assert images.sha256 == ImageList((A, B)).sha256 != ImageList((B, A)).sha256


def test_an_id_is_given_once() -> None:
    with pytest.raises(GenclassError, match=r"2 images are called n1/a, b\.jpg: keep one"):
        ImageList((A, B, A))


HEADER = "image_id,path,class_id,sha256\n"
ROW = f"a,a,1,{'a' * 64}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no image list: delete it and rerun"),
        ("a,b\n1,2\n", "no image list: delete it and rerun"),
        (f"{HEADER}a,a,one,{'a' * 64}\n", "line 2 is no row of an image"),
        (f"{HEADER}a,a,1,abc\n", "line 2 is no row of an image list"),
        (f"{HEADER}a,a\n", "line 2 is no row of an image list"),
        (f"{HEADER},a,1,{'a' * 64}\n", "line 2 is no row of an image list"),
        (f"{HEADER}a,/a,1,{'a' * 64}\n", "line 2 is no row of an image list"),
        (f"{HEADER}a,b/../../a,1,{'a' * 64}\n", "line 2 is no row of an image list"),
        (f"{HEADER}a,a,{'9' * 5000},{'a' * 64}\n", "line 2 is no row of an image list"),
        (f"{HEADER}a,a,١,{'a' * 64}\n", "line 2 is no row of an image list"),
        (f'{HEADER}"a\rb",a,1,{"a" * 64}\n', "line 2 is no row of an image list"),
        (HEADER + ROW * 3, "3 images are called a: keep one: delete it and rerun"),
    ],
)
def test_wrong_image_lists(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "list.csv"
    path.write_text(text + f",,1,{'0' * 64}\n" if HEADER in text else text, encoding="utf-8")
    with pytest.raises(GenclassError, match=rf"list\.csv: {message}"):
        ImageList.read(path)


def test_a_list_that_was_cut_off_or_edited(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    ImageList((A, B)).write(path)
    whole = path.read_text(encoding="utf-8")
    lines = whole.splitlines(keepends=True)
    for text in (
        "".join(lines[:-1]),  # at the end of a row
        "".join(lines[:-2]),
        lines[0],
        lines[0] + lines[2] + lines[3],
        whole.replace(",7,", ",3,"),  # a label
        whole[:-1],
    ):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(GenclassError, match=r"list\.csv: it was cut off or edited: delete it"):
            ImageList.read(path)


def test_a_missing_image_list(tmp_path: Path) -> None:
    with pytest.raises(GenclassError, match=r"list\.csv: the image list is missing: rerun: it is"):
        ImageList.read(tmp_path / "list.csv")
