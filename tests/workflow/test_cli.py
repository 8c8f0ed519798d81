"""`genclass`: what a person types, on a project that ran to its end."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from genclass.cli import app
from tests.support.project import REPOSITORY, Project


def genclass(project: Project, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "genclass", *map(str, arguments), "-c", "config.yaml"],
        cwd=project.folder,
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "150"},
    )


def said(project: Project, *arguments: str | Path) -> str:
    done = genclass(project, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def an_image(project: Project) -> Path:
    return min((project.folder / "given/stripes").rglob("*.png"))


def test_models_and_datasets_say_what_is_on_disk(finished: Project, project: Project) -> None:
    assert said(finished, "models").count("on disk") == 2
    assert "given/stripes" in said(finished, "datasets")
    assert said(project, "models").count("missing: network, encoder") == 2
    assert said(project, "datasets").count("missing") == 2


def test_an_image_is_classified_and_its_evidence_drawn(finished: Project, tmp_path: Path) -> None:
    arguments = ("classify", an_image(finished), "-m", "random", "--output", tmp_path)
    first = said(finished, *arguments)
    path, _, _, *rows, told, _ = first.splitlines()
    assert path == str(an_image(finished))
    posteriors = [float(row.split()[-1]) for row in rows]
    assert len(posteriors) == 5
    assert posteriors == sorted(posteriors, reverse=True)
    assert 0 < sum(posteriors) <= 1
    drawn = tmp_path / f"{an_image(finished).stem}.random.png"
    assert told.endswith(f" (blue): {drawn}")
    pixels = np.asarray(Image.open(drawn)).astype(int)
    assert pixels.shape == (512, 512, 3)
    assert (pixels[..., 0] != pixels[..., 2]).any()  # orange or blue somewhere
    assert said(finished, *arguments) == first


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["classify", "gone.png", "-m", "random"], "gone.png"),
        (["classify", "IMAGE", "-m", "randon"], "unknown model 'randon': did you mean 'random'?"),
        (
            ["classify", "IMAGE", "-m", "raster", "--trials", "2"],
            "2 trials: raster has 1 different",
        ),
        (
            ["plan", "--gpu", "A1000"],
            "unknown GPU 'A1000': known: A100, H100, H200, L40S, RTX4090; measure others: "
            "genclass calibrate -c CONFIG",
        ),
    ],
)
def test_wrong_words_get_one_line(finished: Project, arguments: list[str], message: str) -> None:
    given = [str(an_image(finished)) if word == "IMAGE" else word for word in arguments]
    done = genclass(finished, *given)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert message in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["calibrate", "--threads", "0"],
        ["calibrate", "--device", "foo"],
        ["bench", "--classes", "0"],
        ["bench", "--repeats", "0"],
        ["classify", "x.png", "-m", "random", "--trials", "-3"],
    ],
)
def test_options_out_of_range_are_refused(arguments: list[str]) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert arguments[-2] in result.output


def test_checkpoints_that_are_not_there_yet(project: Project) -> None:
    done = genclass(project, "classify", an_image(project), "-m", "random")
    assert done.stderr == (
        "error: checkpoint 'network' is not on disk: run the workflow, or: genclass fetch\n"
    )


def test_a_model_that_the_config_does_not_evaluate(project: Project) -> None:
    project.config["evaluations"][0]["models"] = ["raster"]
    project.save()
    done = genclass(project, "classify", an_image(project), "-m", "random")
    assert done.stderr == (
        "error: model 'random' is in no evaluation of the config: add it to one\n"
    )


def test_nothing_is_measured_that_could_not_be_written(project: Project) -> None:
    project.config["results"] = "config.yaml/results"
    project.save()
    done = genclass(project, "calibrate")
    assert done.stderr == (
        "error: config.yaml/results/calibration.json: cannot be written: Not a directory: "
        "config.yaml/results\n"
    )
    assert done.stdout == ""


@pytest.mark.parametrize("rate", [0, "5", float("nan")])
def test_a_calibration_that_is_none(project: Project, rate: object) -> None:
    (project.folder / "results").mkdir()
    rates = {"device": "d", "origin": "o", "models": {"random": {"passes_per_second": rate}}}
    (project.folder / "results/calibration.json").write_text(json.dumps(rates))
    [line] = genclass(project, "plan").stderr.splitlines()
    assert line.startswith("error: results/calibration.json is no calibration of this version (")
    assert line.endswith("): measure with: genclass calibrate -c CONFIG")


def test_a_rehearsal_has_its_own_folder(project: Project) -> None:
    project.config["rehearsal"] = 0.5
    project.save()
    assert "rehearsal/results-0.5/report/summary.txt" in genclass(project, "show").stderr
    assert "a rehearsal needs no downloads" in genclass(project, "fetch").stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["rehearsal", "SHARE="], "SHARE is '': a number over 0, up to 1"),
        (["rehearsal", "SHARE=null"], "SHARE is 'null': a number over 0, up to 1"),
        (["rehearsal", "SHARE=0.1 0.2"], "SHARE is '0.1 0.2': a number over 0, up to 1"),
        (["rehearsal", "SHARE=0.1"], "--config rehearsal=0.1 "),
        (["reproduce", "CONFIG="], "CONFIG is empty"),
        (["plan", "CONFIG= "], "CONFIG is empty"),
        (["plan", "CONFIG=a b", "GPU=A100"], "plan --config a --config b --gpu A100"),
        (["reproduce", "OFFLINE=1"], "--config offline=true "),
    ],
)
def test_what_make_passes_on(arguments: list[str], told: str) -> None:
    assert told in made(*arguments)


def test_offline_0_is_not_offline() -> None:
    for word in ("", "0", "false"):
        assert "offline" not in made("reproduce", f"OFFLINE={word}")


def made(*arguments: str) -> str:
    """What `make` would do, or says instead."""
    command = ["make", "--dry-run", "--no-print-directory", *arguments]
    done = subprocess.run(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return done.stdout


def test_the_report_is_shown_and_the_rest_is_said(finished: Project, project: Project) -> None:
    shown = said(finished, "show")
    assert "Random orders" in shown
    assert "report: results/report/report.html" in shown
    missing = genclass(project, "show")
    assert missing.returncode == 1
    assert 'there is no report yet: make reproduce CONFIG="config.yaml"' in missing.stderr
    assert "8 of 8 shards are done." in said(finished, "status")
    assert "0 of 8 shards are done." in said(project, "status")


def test_races_are_replayed(finished: Project, tmp_path: Path) -> None:
    scores = sorted((finished.folder / "results/scores/random").rglob("*.safetensors"))
    command = [sys.executable, "-m", "genclass", "race-replay", *map(str, scores)]
    options = ["--delta", "0.3", "--rounds", "1:2", "--chart", str(tmp_path / "chart.html")]
    done = subprocess.run([*command, *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "random/noise" in done.stdout
    assert "random/stripes" in done.stdout
    assert done.stdout.count("racing, delta 0.3") == done.stdout.count("fixed, as told") == 2
    page = (tmp_path / "chart.html").read_text()
    assert "cdn.jsdelivr" not in page
    nowhere = subprocess.run(
        [*command, "--chart", str(scores[0] / "x.html")], capture_output=True, text=True
    )
    assert nowhere.stderr.startswith(f"error: {scores[0]}/x.html: cannot be written: File exists")
    assert nowhere.stdout == ""
    wrong = subprocess.run([*command, "--rounds", "1-2"], capture_output=True, text=True)
    assert wrong.stderr == "error: rounds '1-2': expected TRIALS:KEEP,..., for example 1:100,4:10\n"
