"""What is downloaded: from a server on 127.0.0.1 to the report, and again without it."""

import json
import shutil
import tarfile

from tests.support.project import Project
from tests.support.web import Web

CELL = "results/metrics/random/noise.json"


def scores(project: Project) -> str:
    """The sha256 of the merged scores."""
    return json.loads((project.folder / "results/merged/random/noise.json").read_text())["sha256"]


def test_downloads_lead_to_metrics_and_are_found_again_offline(project: Project) -> None:
    web = Web(project.folder)
    given = project.folder / "given"
    with tarfile.open(web.folder / "noise.tar.gz", "w:gz") as tar:
        tar.add(given / "noise", "set")
    shutil.copy(given / "network.pt", web.folder)
    project.config["datasets"]["noise"]["places"] = [web.url("noise.tar.gz")]
    project.config["checkpoints"]["network"]["places"] = [web.url("network.pt")]
    project.save()

    refused = project.snakemake(CELL, "--config", "offline=true", check=False)
    assert refused.returncode != 0
    assert "network.pt is missing, and offline it cannot be fetched" in refused.stdout
    assert web.asked == []

    project.snakemake(CELL)
    first = scores(project)
    assert sorted(web.asked) == ["/network.pt", "/noise.tar.gz"]
    assert (project.folder / "config.lock.json").exists()

    web.server.shutdown()
    assert "Nothing to be done" in project.snakemake(CELL, "--config", "offline=true").stdout
    shutil.rmtree(project.folder / "results")
    project.snakemake(CELL, "--config", "offline=true")
    assert len(web.asked) == 2
    assert scores(project) == first


def test_what_was_deleted_or_moved_is_brought_back_and_nothing_scored_again(
    project: Project,
) -> None:
    web = Web(project.folder)
    given = project.folder / "given"
    shutil.copy(given / "network.pt", web.folder)
    project.config["checkpoints"]["network"]["places"] = [web.url("network.pt")]
    project.save()
    assert "checkpoints/network: downloads/" in project.genclass("fetch")  # beforehand
    project.snakemake(CELL)
    assert web.asked == ["/network.pt"]

    shutil.rmtree(project.folder / "downloads")
    project.config["downloads"] = "elsewhere"
    project.config["models"]["random"]["trials"] = 5
    project.save()
    refused = project.snakemake(CELL, check=False)
    assert refused.returncode != 0
    line = "no longer on disk: checkpoints/network: bring it back: genclass fetch -c config.yaml"
    assert line in refused.stdout
    assert "checkpoints/network: elsewhere/" in project.genclass("fetch")
    assert len(web.asked) == 2
    assert project.planned("--nolock", CELL) == {"evaluate": 2, "merge": 1, "measure": 1}
    project.snakemake(CELL)
    shutil.rmtree(given / "noise")
    gone = project.genclass("fetch", check=False)
    assert "error: datasets/noise: no place gives it (file:given/noise: no such file" in gone
