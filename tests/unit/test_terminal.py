"""What a terminal shows: names whole, nothing taken for markup, and no encoding ends a run."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from genclass import sources
from genclass.cli import app
from genclass.cli.classifying import map_stems
from genclass.cli.terminal import Heading, Listing, Styled, Terminal, duration
from genclass.sources import Listed
from tests.support.small_config import SMALL

PACKAGE = Path(__file__).parents[2] / "genclass"
NAME = "randar-racing-with-a-name-that-is-long"


def table() -> Listing:
    result = Listing("model", Heading("trials", number=True), Heading("title", wraps=True), "last")
    result.add(NAME, "20", "A title of several words, longer than a terminal", "z" * 20)
    result.add("dit", "5", "short", Styled("z", "green"))
    return result


def drawn(table: Listing, width: int | None = None) -> list[str]:
    file = io.StringIO()
    Terminal(file, width).table(table)
    return [line.rstrip() for line in file.getvalue().splitlines()]


def test_only_one_module_knows_rich() -> None:
    users = [
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.split()[:1] in (["from"], ["import"]) and line.split()[1].split(".")[0] == "rich"
    ]
    assert set(users) == {"cli/terminal.py"}


def test_in_a_pipe_nothing_is_cut_nor_wrapped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    line = drawn(table())[2]
    assert line.startswith(f"{NAME}  ")
    assert line.endswith("A title of several words, longer than a terminal  " + "z" * 20)
    file = io.StringIO()
    terminal = Terminal(file)
    terminal.say("a/path " * 100)
    terminal.note("a word " * 100)
    assert len(file.getvalue().splitlines()) == 2


@pytest.mark.parametrize("width", range(1, 140, 7))
def test_a_narrow_terminal_keeps_names_and_the_first_columns(width: int) -> None:
    lines = drawn(table(), width)
    assert lines[2].startswith(NAME)
    assert any(line.startswith("dit") for line in lines)
    headings = lines[0].split()
    assert headings == ["model", "trials", "title", "last"][: len(headings)]
    rows = [line for line in lines if not line.startswith("too narrow")]
    if len(headings) > 1:
        assert max(map(len, rows)) <= width
    text = "".join("".join(lines).split())
    assert ("toonarrowfor:" in text) == (len(headings) < 4)
    if len(headings) >= 3:
        assert sum(line.count("several") for line in rows) == 1


def test_numbers_stand_right_and_sections_are_apart() -> None:
    numbers = Listing("a", Heading("b\nc", number=True))
    numbers.add("x", "1")
    numbers.section()
    numbers.add("total", "1234567")
    assert drawn(numbers) == [
        "             b",
        "a            c",
        "──────────────",
        "x            1",
        "",
        "total  1234567",
    ]


@pytest.mark.parametrize("text", ["Rand[/]AR", "[red]x[.png", ":smile:", "[link=x]y", "\\[b]"])
def test_nothing_is_taken_for_markup(text: str) -> None:
    file = io.StringIO()
    terminal = Terminal(file)
    terminal.say(text)
    terminal.note(text)
    assert file.getvalue().splitlines() == [text, text]
    one = Listing(text)
    one.add(Styled(text, "red"))
    assert drawn(one)[::2] == [text, text]


def test_what_is_no_character_is_shown_as_an_escape() -> None:
    file = io.StringIO()
    Terminal(file).say("a\nb\x1b[31mc\udce9.png é")
    assert file.getvalue() == "a\\nb\\x1b[31mc\\udce9.png é\n"


def test_a_title_of_any_characters_is_listed_on_any_terminal(tmp_path: Path) -> None:
    raw = SMALL | {"models": {"ours": SMALL["models"]["ours"] | {"title": "Rand[/]AR → ∞ …"}}}
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(raw))
    for encoding, shown in (("latin-1", "Rand[/]AR ? ? ?"), ("utf-8", "Rand[/]AR → ∞ …")):
        done = subprocess.run(
            [sys.executable, "-m", "genclass", "models", "-c", config],
            capture_output=True,
            env=os.environ | {"PYTHONIOENCODING": f"{encoding}:strict"},
        )
        assert done.returncode == 0, done.stderr
        assert shown in done.stdout.decode(encoding)
        assert done.stderr == b""


def test_a_log_takes_what_a_script_prints() -> None:
    code = "from genclass.scripting import run; run(lambda: print('caf\\udce9 → ok'))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": "latin-1"},
    )
    assert (done.returncode, done.stdout) == (0, b"caf? ? ok\n")


def test_times_are_short() -> None:
    cases = {0.5: "0.5 s", 119: "1.98 min", 2800: "46.7 min", 3600: "1 h", 4e6: "1,111 h"}
    assert {seconds: duration(seconds) for seconds in cases} == cases


def test_maps_of_images_of_one_name_do_not_overwrite_each_other() -> None:
    def stems(*images: str) -> list[str]:
        return map_stems([Path(image) for image in images])

    assert stems("a/1.png", "b/2.png") == ["1", "2"]
    assert stems("a/1.png", "b/1.png", "2.png") == ["a-1.png", "b-1.png", "2"]
    assert stems("a/1.png", "a/1.jpg") == ["a-1.png", "a-1.jpg"]
    assert stems("a/x.png", "a/X.png") == ["a-x.png", "a-X.png-2"]
    assert stems("a/1.png", "a/1.png") == ["a-1.png", "a-1.png-2"]
    assert stems("a-1.png.png", "a/1.png", "b/1.png") == ["a-1.png", "a-1.png-2", "b-1.png"]


def test_the_files_of_a_repository_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = [Listed("weights/model-00001.safetensors", 1_371_702_040), Listed("README.md", None)]
    monkeypatch.setattr(sources, "list_place", {"hf://owner/name": listed}.__getitem__)
    done = CliRunner().invoke(app, ["fetch", "--list", "hf://owner/name"])
    assert done.exit_code == 0
    rows = [line.split("  ") for line in done.stdout.splitlines()[2:]]
    assert [row[0] for row in rows] == ["weights/model-00001.safetensors", "README.md"]
    assert [row[-1].strip() for row in rows] == ["1.37 GB", "unknown"]
