"""Bench: both paths give the same scores, and what is written says what was measured."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from genclass.cli import app
from genclass.config import ScoredModel, model_type
from genclass.families import FAMILIES, UNNAMED, System
from genclass.models.dit import DiT, DiTConfig
from genclass.models.randar import RandAR, RandARConfig
from genclass.planning import bench
from genclass.scorers.plain import plain_log_likelihood, plain_squared_error
from tests.support import small_families

CLASSES = torch.arange(5)
SIZE = {"layers": 1, "heads": 2, "width": 32}


def test_randar_scores_as_the_plain_path_does() -> None:
    torch.manual_seed(0)
    network = RandAR(RandARConfig(3, 4, 64, vocabulary=96, grid=4, classes=7)).eval()
    nn.init.normal_(network.output.weight, std=0.2)
    codes, order = torch.randint(0, 96, (16,)), torch.randperm(16)
    ours = network.token_log_probs(codes, order, CLASSES).sum(dim=1)
    with torch.no_grad():
        plain = plain_log_likelihood(network, codes, order, CLASSES)
    assert ours == pytest.approx(plain, rel=1e-5)
    assert ours.std() > 0.01


def test_dit_scores_as_the_plain_path_does() -> None:
    torch.manual_seed(0)
    network = DiT(DiTConfig(2, 4, 64, latent_size=8, classes=7)).eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)
    noised, noise = torch.randn(2, 1, 4, 8, 8)
    guess = network.predict_classes(noised, 500, CLASSES)
    ours = ((guess - noise) ** 2).flatten(1).sum(dim=1)
    with torch.no_grad():
        plain = plain_squared_error(network, noised, noise, 500, CLASSES)
    assert ours == pytest.approx(plain, rel=1e-5)
    assert ours.std() > 0.01


@pytest.mark.parametrize(
    "architecture",
    [name for name, card in FAMILIES.items() if card.benched and name in small_families.SMALL],
)
def test_every_benched_family_is_measured(
    architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = small_families.system_of(architecture)
    monkeypatch.setattr(bench, "benched", lambda dtype: iter([small]))
    monkeypatch.setattr(bench, "MATRIX", {"cpu": 64})
    for measured in bench.bench(torch.device("cpu"), classes=3, repeats=1):
        assert measured.difference < 1e-3
        assert measured.rate > 0
        assert measured.speed_up > 0


def test_every_kind_of_scorer_is_benched() -> None:
    """Flow's is diffusion's, on the same network."""
    kinds = {system.family.scorer().__name__ for system in bench.benched("float32")}
    assert kinds == {
        "OrderedScorer",
        "RasterScorer",
        "NextScaleScorer",
        "HiddenTokensScorer",
        "MaskingScorer",
        "MeanFlowScorer",
        "LogitsScorer",
        "DiffusionScorer",
    }


def test_what_is_measured_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sections = {
        "randar": {"size": SIZE, "vocabulary": 32, "grid": 4, "classes": 3},
        "dit": {"size": SIZE, "latent_size": 4, "classes": 3},
    }
    encoders = {
        "randar": {
            "architecture": "llamagen_vq",
            "channels": 32,
            "multipliers": [1, 1],
            "residual_blocks": 1,
            "latent": 16,
            "codebook": 32,
            "code_width": 4,
        },
        "dit": {"architecture": "autoencoder_kl", "channels": [32, 32], "groups": 8},
    }

    def small(dtype: str) -> Iterator[System]:
        for name, options in sections.items():
            raw = {
                "network": {"architecture": name, "checkpoint": UNNAMED, **options},
                "encoder": {**encoders[name], "checkpoint": UNNAMED},
                "classifier": {"dtype": dtype},
                "image_size": 8,
            }
            yield model_type(name, ScoredModel).model_validate(raw).system

    monkeypatch.setattr(bench, "benched", small)
    monkeypatch.setattr(bench, "MATRIX", {"cpu": 128})
    options = ["--device", "cpu", "--classes", "2", "--repeats", "1"]
    output = tmp_path / "bench.json"
    said = CliRunner().invoke(app, ["bench", *options, "--output", str(output)]).stdout
    assert said.splitlines()[-1] == f"written to {output}"
    records = json.loads(output.read_text())
    assert [(r["network"], r["dtype"]) for r in records] == [
        ("randar 1x32", "float32"),
        ("dit 1x32", "float32"),
        ("randar 1x32", "bfloat16"),
        ("dit 1x32", "bfloat16"),
    ]
    for record in records:
        start = [*record["network"].split(), record["dtype"]]
        (row,) = (words for words in map(str.split, said.splitlines()) if words[:3] == start)
        assert row[3] == f"{record['matrix_rate'] / 1e12:.3g}"
        assert record["share"] == pytest.approx(record["rate"] / record["matrix_rate"])
        assert record["peak_memory"] > 0
        assert record["difference"] < (1e-4 if record["dtype"] == "float32" else 0.05)
