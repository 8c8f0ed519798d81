"""The whole workflow on a small project: what runs, what runs again, and what a failure leaves."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genclass.cli.running import show
from genclass.config import load_config
from genclass.errors import GenclassError
from genclass.specs.cells import of_another_config
from tests.support.project import REPOSITORY, Project

CELLS = 4  # two models on two datasets
SHARDS = 8  # two each


def test_a_dry_run_counts_the_jobs_before_anything_is_there(project: Project) -> None:
    assert project.planned() == {
        "configure": 1,
        "fetch": 4,
        "prepare": 2,
        "specify": CELLS,
        "evaluate": SHARDS,
        "merge": CELLS,
        "measure": CELLS,
        "explain": 1,
        "report": 1,
    }
    assert not (project.folder / "results").exists()


def test_a_run_ends_in_a_report_and_a_second_one_has_nothing_to_do(finished: Project) -> None:
    assert (finished.folder / "results/report/report.html").stat().st_size > 1000
    main = json.loads((finished.folder / "results/report/tables/main.json").read_text())
    assert main
    [pair] = json.loads((finished.folder / "results/report/tables/gallery.json").read_text())
    assert pair["entries"]
    reasons = (finished.folder / "results/logs/reasons.log").read_text().splitlines()
    assert sum(line.startswith("evaluate ") for line in reasons) == SHARDS
    assert max(map(len, reasons)) <= 200
    assert "Nothing to be done" in finished.snakemake().stdout


def test_snakemakes_own_report_holds_the_page(finished: Project, tmp_path: Path) -> None:
    project = finished.copied_to(tmp_path / "copy")
    project.snakemake("--report", "archive.zip")
    with zipfile.ZipFile(project.folder / "archive.zip") as archive:
        files = [archive.read(name) for name in archive.namelist()]
    results = project.folder / "results/report"
    for result in (results / "report.html", results / "tables/main.json"):
        assert result.read_bytes() in files


def models(project: Project) -> dict:
    return project.config["models"]


def change_template(project: Project) -> None:
    template = next((project.folder / "reports").glob("*.j2"))
    template.write_text(template.read_text() + "\n")


def add_dataset(project: Project) -> None:
    (project.folder / "given/more").symlink_to("noise")
    more = {**project.config["datasets"]["noise"], "places": ["file:given/more"]}
    project.config["datasets"]["more"] = more
    project.config["evaluations"].append({"models": ["random"], "datasets": ["more"]})


def correct_class_list(project: Project) -> None:
    path = project.folder / "given/classes.csv"
    one_for_two = path.read_text().replace("1,digit-1,", "1,digit-?,").replace("-2,", "-1,")
    path.write_text(one_for_two.replace("-?,", "-2,"))


def link_checkpoint_elsewhere(project: Project) -> None:
    """The same file at another place, which is tried after the first."""
    (project.folder / "given/mirror.pt").symlink_to("network.pt")
    project.config["checkpoints"]["network"]["places"].append("file:given/mirror.pt")


def add_option(project: Project) -> None:
    """To the code of a family, with a default."""
    option = "    temperature: float = 1.0\n    latent_noise: "
    project.edit_library("families/randar.py", "    latent_noise: ", option)


def raise_version(project: Project) -> None:
    """Of a family, whose code may give other numbers now."""
    name = '    architecture: Literal["randar"]\n'
    project.edit_library("families/randar.py", name, f"    version = 99\n{name}")


def change_profile(project: Project) -> None:
    profile = project.folder / "profiles/default/config.yaml"
    profile.write_text(profile.read_text() + "\n# moved to another partition\n")


REPORT = {"configure": 1, "report": 1}
EXPLAINED = {"explain": 1} | REPORT  # the gallery shows both models on the noise
SCORED = {"specify": 4, "evaluate": 8, "merge": 4, "measure": 4, "explain": 1, "report": 1}
EDITS: dict[str, tuple[Callable[[Project], object], dict[str, int]]] = {
    "nothing": (lambda p: None, {}),
    "the profile": (change_profile, {}),
    "a checkpoint's date": (lambda p: os.utime(p.folder / "given/network.pt"), {}),
    "the class batch": (lambda p: models(p)["random"].update(class_batch=2), {}),
    "the shards": (lambda p: p.config["shards"].update(images=5), {}),
    "a smaller budget": (
        lambda p: models(p)["random"].update(trials=3),
        {"merge": 2, "measure": 2} | EXPLAINED,
    ),
    "the downloads folder": (
        lambda p: p.config.update(downloads="elsewhere"),
        {},
    ),
    "a caption": (lambda p: p.config["report"]["tables"]["main"].update(caption="New."), REPORT),
    "the gallery": (lambda p: p.config["report"]["gallery"][0].update(images=3), EXPLAINED),
    "what may be shown": (
        lambda p: p.config["datasets"]["noise"].update(thumbnails=False),
        EXPLAINED,
    ),
    "a model's title": (lambda p: models(p)["random"].update(title="New"), REPORT),
    "the template": (change_template, {"report": 1}),
    "a licence": (
        lambda p: p.config["checkpoints"]["network"].update(licence="CC0"),
        REPORT,
    ),
    "a dataset's licence": (
        lambda p: p.config["datasets"]["noise"].update(licence="CC0"),
        REPORT,
    ),
    "a mirror": (link_checkpoint_elsewhere, REPORT),
    "a dataset's title": (lambda p: p.config["datasets"]["noise"].update(title="New"), REPORT),
    "a default that is spelled out": (
        lambda p: models(p)["random"].update(classifier={"orders": "random"}),
        {},
    ),
    "a new default": (add_option, REPORT),  # the report shows all of the config
    "a family's version": (raise_version, SCORED),
    "the seed": (lambda p: p.config.update(seed=2), {"prepare": 2, "configure": 1} | SCORED),
    "an option of one model": (
        lambda p: models(p)["random"].update(classifier={"latent_noise": 0.1}),
        {"specify": 2, "evaluate": 4, "merge": 2, "measure": 2} | EXPLAINED,
    ),
    "a larger budget": (
        lambda p: models(p)["random"].update(trials=6),
        {"evaluate": 4, "merge": 2, "measure": 2} | EXPLAINED,
    ),
    "fewer images of every cell": (
        lambda p: p.config["evaluations"][0].update(images=5),
        {"merge": 4, "measure": 4} | EXPLAINED,
    ),
    "a new dataset": (
        add_dataset,
        {"fetch": 1, "prepare": 1, "specify": 1, "evaluate": 2, "merge": 1, "measure": 1} | REPORT,
    ),
    "a lost shard that was merged already": (
        lambda p: next((p.folder / "results/scores/random/noise").glob("*.safetensors")).unlink(),
        {},
    ),
    "lost metrics": (
        lambda p: (p.folder / "results/metrics/random/noise.json").unlink(),
        {"merge": 1, "measure": 1, "explain": 1, "report": 1},
    ),
    "lost predictions": (
        lambda p: (p.folder / "results/predictions/random/noise.parquet").unlink(),
        {"merge": 1, "measure": 1, "explain": 1, "report": 1},
    ),
    "a lost record of a merge": (
        lambda p: (p.folder / "results/merged/random/noise.json").unlink(),
        {"merge": 1, "measure": 1, "explain": 1, "report": 1},
    ),
    "a class list": (
        correct_class_list,
        {"prepare": 1, "specify": 2, "evaluate": 4, "merge": 2, "measure": 2}
        | {"explain": 1, "report": 1},
    ),
    "fewer images of one dataset": (
        lambda p: p.config["datasets"]["noise"].update(images_per_class=2, images=6),
        {"prepare": 1, "specify": 2, "evaluate": 2, "merge": 2, "measure": 2} | EXPLAINED,
    ),
}


@pytest.mark.parametrize("edit", EDITS)
def test_each_edit_reruns_exactly_what_it_must(
    finished: Project, tmp_path: Path, edit: str
) -> None:
    project = finished.copied_to(tmp_path / "copy")
    change, expected = EDITS[edit]
    change(project)
    project.save()
    assert project.planned() == expected


def merged_digests(project: Project) -> dict[str, str]:
    folder = project.folder / "results/merged"
    return {
        path.relative_to(folder).as_posix(): json.loads(path.read_text())["sha256"]
        for path in folder.rglob("*.json")
    }


def test_any_sharding_and_growing_cells_give_the_same_scores(
    finished: Project, project: Project
) -> None:
    project.config["shards"] = {"images": 5, "trials": 3}
    project.config["models"]["random"]["trials"] = 2
    project.config["evaluations"][0]["images"] = 7
    project.save()
    records = [f"results/merged/{m}/{d}.json" for m, d in PAIRS]
    project.snakemake(*records)
    project.config["shards"] = {"images": 7}
    project.config["models"]["random"]["trials"] = 4
    del project.config["evaluations"][0]["images"]
    project.save()
    project.snakemake(*records)
    shards = sorted(p.name for p in (project.folder / "results/scores/random/noise").iterdir())
    assert shards == [
        "images-00000-00004.trials-000-001.safetensors",
        "images-00000-00004.trials-002-003.safetensors",
        "images-00005-00006.trials-000-001.safetensors",
        "images-00005-00006.trials-002-003.safetensors",
        "images-00007-00011.trials-000-003.safetensors",
    ]
    assert merged_digests(project) == merged_digests(finished)


def test_more_exhaustive_images_of_a_race_are_the_only_ones_that_are_scored(
    project: Project,
) -> None:
    project.config["models"]["random"]["strategy"] = {"kind": "racing"}
    project.config["evaluations"] = [{"models": ["random"], "datasets": ["noise"]}]
    project.config["report"]["gallery"] = []
    project.config["exhaustive"] = 4
    project.save()
    project.snakemake()
    folder = project.folder / "results/scores/random/noise"
    whole, race = "images-00000-00003.trials-000-003", "images-00004-00011.race-004"
    assert sorted(p.name for p in folder.iterdir()) == [
        f"{name}.safetensors" for name in (whole, race)
    ]
    path = project.folder / "results/metrics/random/noise.json"
    before = json.loads(path.read_text())
    assert before["control"]["images"] == 4
    assert project.planned() == {}
    project.config["exhaustive"] = 6
    project.save()
    after = {"configure": 1, "evaluate": 1, "measure": 1, "merge": 1, "report": 1}
    assert project.planned() == after
    project.snakemake()
    assert (folder / "images-00004-00005.trials-000-003.safetensors").is_file()
    assert json.loads(path.read_text())["control"]["images"] == 6
    project.config["exhaustive"] = "all"  # the images that raced, and whoever was scored is used
    project.save()
    project.snakemake()
    assert len(list(folder.glob("*.trials-*"))) == 3 + 1
    after_all = json.loads(path.read_text())
    assert (after_all["racing"], after_all["images"]) == (False, 12)


PAIRS = [(m, d) for m in ("random", "raster") for d in ("noise", "stripes")]


def test_a_run_that_is_killed_goes_on_to_the_same_scores(
    finished: Project, project: Project
) -> None:
    run = subprocess.Popen(
        [sys.executable, "-m", "snakemake", "--configfile", "config.yaml"],
        cwd=project.folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 400
    while not list((project.folder / "results").glob("scores/*/*/*.safetensors")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    done = project.snakemake()
    assert f"the run of process {run.pid} on " in done.stdout
    assert "is dead: its lock is removed" in done.stdout
    assert merged_digests(project) == merged_digests(finished)


def test_what_fails_is_marked_as_missing_and_the_rest_is_finished(project: Project) -> None:
    next((project.folder / "given/stripes").rglob("*.png")).write_bytes(b"no image")
    done = project.snakemake(check=False)
    assert done.returncode != 0
    assert "error: dataset stripes: " in done.stdout
    failures = (project.folder / "results/failures.txt").read_text().splitlines()
    assert failures[:2] == ["1 job failed:", "prepare stripes"]
    error, log = failures[2:]
    assert error.startswith("  error: dataset stripes: ")
    assert (project.folder / log.removeprefix("  log: ")).is_file()
    page = (project.folder / "results/report/report.html").read_text()
    assert "not evaluated" in page
    assert (project.folder / "results/metrics/random/noise.json").exists()
    assert not (project.folder / "results/metrics/random/stripes.json").exists()


def test_a_wrong_config_is_one_line_before_anything_runs(project: Project) -> None:
    project.config["models"]["random"]["trails"] = 3
    project.save()
    done = project.snakemake(check=False)
    assert done.returncode != 0
    expected = "config.yaml: unknown key 'models.random.trails': did you mean 'trials'?"
    assert expected in done.stdout
    assert "Traceback" not in done.stdout


def test_what_names_no_row_of_the_paper_is_said_before_anything_runs(project: Project) -> None:
    project.config["report"]["tables"]["main"]["rows"][0]["paper"] = "RandAR-L, K=02"
    project.save()
    done = project.snakemake("--dry-run", check=False)
    assert done.returncode != 0
    assert "report.tables.main: reports/paper.yaml: unknown row 'RandAR-L, K=02'" in done.stdout


def test_a_wrong_checkpoint_is_one_line(project: Project) -> None:
    (project.folder / "given/network.pt").write_bytes(b"PK\x03\x04 cut")
    done = project.snakemake("results/merged/random/noise.json", check=False)
    assert done.returncode != 0
    says = (
        "error: checkpoints/network: no place gives it (file:given/network.pt: damaged checkpoint"
    )
    assert says in done.stdout


def test_the_log_says_why_each_job_runs(finished: Project, tmp_path: Path) -> None:
    reasons = (finished.folder / "results/logs/reasons.log").read_text().splitlines()
    assert any(line.startswith("report : Missing output files") for line in reasons)
    project = finished.copied_to(tmp_path / "copy")
    project.config["report"]["title"] = "New"
    project.save()
    project.snakemake()
    reasons = (project.folder / "results/logs/reasons.log").read_text().splitlines()
    assert [line.split()[0] for line in reasons] == ["configure", "report"]
    assert "Params have changed" in reasons[0]
    assert max(map(len, reasons)) <= 200


def test_a_copied_folder_of_another_config_is_not_shown_as_this_ones(
    finished: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = finished.copied_to(tmp_path / "copy")
    shutil.rmtree(project.folder / ".snakemake")  # its records do not lie in the results
    monkeypatch.chdir(project.folder)
    loaded = load_config(Path("config.yaml"))
    assert of_another_config(loaded) == []
    spec, metrics = (of("random", "noise") for of in (loaded.run.spec, loaded.run.metrics))
    spec.rename(spec.with_suffix(".aside"))
    assert of_another_config(loaded) == [spec]
    metrics.rename(metrics.with_suffix(".aside"))
    assert of_another_config(loaded) == []  # never measured
    for path in (spec, metrics):
        path.with_suffix(".aside").rename(path)
    project.config["models"]["raster"]["classifier"]["latent_noise"] = 0.1
    project.save()
    assert project.planned() == {}
    loaded = load_config(Path("config.yaml"))
    assert of_another_config(loaded) == [
        loaded.run.config,
        *(loaded.run.spec("raster", dataset) for dataset in ("noise", "stripes")),
    ]
    with pytest.raises(GenclassError, match=r"is not of this config.* --forcerun ") as error:
        show([Path("config.yaml")])
    files = str(error.value).partition("--forcerun ")[2].split()
    planned = project.planned("--forcerun", *files)
    assert planned == {"configure": 1, "specify": 2, "evaluate": 4, "merge": 2, "measure": 2} | {
        "explain": 1,
        "report": 1,
    }


def test_the_lines_of_python_in_the_readme(
    finished: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    [code] = re.findall(r"```python\n(.*?)```", (REPOSITORY / "README.md").read_text(), re.DOTALL)
    image = min((finished.folder / "given/stripes").rglob("*.png"))
    for told, ours in {
        "config/miniature.yaml": "config.yaml",
        '"randar"': '"random"',
        "digit.png": str(image),
    }.items():
        assert told in code
        code = code.replace(told, ours)
    monkeypatch.chdir(finished.folder)
    said: dict[str, Any] = {}
    exec(code, said)
    assert "zero" in capsys.readouterr().out
    result = said["result"]
    assert result.names[0] and len(result.classes) == 5
    assert np.all(np.diff(result.posterior) <= 0) and 0 < result.posterior.sum() <= 1
