"""`genclass`: what a person types, on a project that ran to its end."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.workflow.project import Project


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
    posteriors = [float(line.split("│")[2]) for line in first.splitlines() if line[:1] == "│"]
    assert len(posteriors) == 5
    assert posteriors == sorted(posteriors, reverse=True)
    assert 0 < sum(posteriors) <= 1
    drawn = tmp_path / f"{an_image(finished).stem}.random.png"
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
            "--trials 2: raster has 1 different trials",
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


def test_checkpoints_that_are_not_there_yet(project: Project) -> None:
    done = genclass(project, "classify", an_image(project), "-m", "random")
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr


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
    wrong = subprocess.run([*command, "--rounds", "1-2"], capture_output=True, text=True)
    assert wrong.stderr == "error: rounds '1-2': expected TRIALS:KEEP,..., for example 1:100,4:10\n"
