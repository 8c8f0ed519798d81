"""Calibrate: what the plan says by it, against what an evaluation then takes."""

import dataclasses
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file

from genclass.config import Config, load_config
from genclass.config.report import Report
from genclass.files import sha256_of
from genclass.jobs.evaluate import evaluate
from genclass.jobs.worker import Job
from genclass.planning import calibrate as module
from genclass.planning.calibrate import calibrate, first_and_later, rate_compiled
from genclass.planning.plan import plan
from genclass.planning.rates import Rate, Rates
from genclass.scores.score_file import Index
from genclass.scores.shards import Shard
from genclass.specs.spec import ScoredDataset, specify
from tests.support.setting import draw_images

REPOSITORY = Path(__file__).parents[2]
CPU = torch.device("cpu")
IMAGES = 16
MODELS = ["randar", "randar-in-raster-order", "dit"]


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """Three of the miniature's models on a few of its images."""
    loaded = load_config(REPOSITORY / "config/miniature.yaml")
    evaluation = loaded.evaluations[0].model_copy(update={"models": MODELS, "datasets": ["digits"]})
    digits = loaded.datasets["digits"].model_copy(update={"images": IMAGES})
    # A process of its own reads it again: only what is asked for may be in it.
    return loaded.model_copy(
        update={
            "results": str(tmp_path / "results"),
            "evaluations": [evaluation],
            "datasets": {"digits": digits},
            "report": Report(title="A few digits", tables={}),
        }
    )


def evaluated_seconds(config: Config, name: str, folder: Path) -> float:
    """What a score file records for all images, with random weights."""
    model = config.models[name]
    folder.mkdir()
    images = draw_images(folder / "images", IMAGES, 10)
    files = {}
    for part, card in {"network": model.network, "encoder": model.encoder}.items():
        files[part] = folder / f"{part}.safetensors"
        save_file(card.build().state_dict(), files[part])
    spec = specify(
        model=model,
        dataset=ScoredDataset("digits", images.sha256, list(range(10))),
        files={part: sha256_of(file) for part, file in files.items()},
        seed=1,
        trials=model.trials,
    )
    job = Job(
        spec=spec,
        shard=Shard(0, IMAGES, 0, model.trials),
        image_list=images,
        folder=folder / "images",
        files=files,
        partial=folder / "partial",
        compiled=folder / "compiled",
        device=CPU,
        class_batch=model.class_batch,
    )
    target = folder / "scores.safetensors"
    evaluate(job, target)
    return Index.read(target).header.seconds


def test_the_plans_time_is_within_30_percent(config: Config, tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for attempt in range(4):  # others may be using the machine in one of the two
            rates = calibrate(config, CPU, print)
            without_start_up = {
                name: dataclasses.replace(rate, seconds_per_job=0.0)
                for name, rate in rates.models.items()
            }
            found = plan(config, Rates(rates.device, rates.origin, without_start_up))
            planned = sum(cell.seconds for cell in found.cells if cell.trials > 1)
            measured = sum(
                evaluated_seconds(config, name, tmp_path / f"{name}-{attempt}")
                for name in ("randar", "dit")
            )
            print(f"planned {planned:.2f} s, measured {measured:.2f} s")
            if 0.7 < planned / measured < 1.3:
                return
        pytest.fail(f"planned {planned:.2f} s, measured {measured:.2f} s")
    finally:
        torch.set_num_threads(threads)


def test_models_of_one_shape_are_measured_once(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SECONDS", 0.1)
    said: list[str] = []
    rates = calibrate(config, CPU, said.append)
    assert [line.split(":")[0] for line in said] == ["randar", "dit"]
    assert rates.models["randar"] == rates.models["randar-in-raster-order"]
    assert all(rate.seconds_per_job > 0 for rate in rates.models.values())
    rates.write(path := Path(config.results) / "calibration.json")
    assert Rates.read(path) == rates


# What is compiled


def test_what_the_first_job_takes_longer_is_compiling(tmp_path: Path) -> None:
    kept, measured = tmp_path / "kept", [Rate(90.0, 1.0, 20.0), Rate(100.0, 1.1, 5.0)]

    def measure() -> Rate:
        kept.touch()
        return measured.pop(0)

    assert first_and_later(measure, kept) == Rate(100.0, 1.1, 5.0, seconds_to_compile=15.0)
    measured = [Rate(100.0, 1.0, 4.9), Rate(100.0, 1.0, 5.0)]  # noise
    assert first_and_later(measure, kept) == Rate(100.0, 1.0, 5.0, seconds_to_compile=0.0)


def test_without_anything_compiled_it_is_measured_once(tmp_path: Path) -> None:
    measured = iter([Rate(90.0, 1.0, 20.0)])
    assert first_and_later(lambda: next(measured), tmp_path / "none") == Rate(90.0, 1.0, 20.0)


COMPILING = """
    def compile(self) -> None:
        import time
        if not loaded:
            time.sleep(3)

    def prepare(
"""
INSTEAD_OF_TORCH = """
        calibrate.SECONDS = 0.1
        torch.compiler.save_cache_artifacts = lambda: (b"code", None)
        torch.compiler.load_cache_artifacts = loaded.append
        self.system,
"""


@pytest.mark.usefixtures("registry")
def test_a_process_of_its_own_takes_what_another_compiled(tmp_path: Path) -> None:
    family = (REPOSITORY / "examples/gaussians.py").read_text()
    plugin = tmp_path / "compiling.py"
    family = family.replace("    def prepare(", COMPILING.strip("\n"))
    family = family.replace("        self.system,", INSTEAD_OF_TORCH.strip("\n"))
    start = (
        "from genclass.planning import calibrate\n\nloaded: list[bytes] = []\n\n\nclass PixelNoise"
    )
    plugin.write_text(family.replace("class PixelNoise", start))
    changes = yaml.safe_load((REPOSITORY / "examples/gaussians.yaml").read_text())
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(changes | {"plugins": [str(plugin)]}))
    loaded = load_config(REPOSITORY / "config/miniature.yaml", tmp_path / "c.yaml")
    (tmp_path / "work").mkdir()
    rate = rate_compiled(loaded, "gaussians", CPU, tmp_path / "work")
    assert (tmp_path / "work/compiled").read_bytes() == b"code"
    assert 1 < rate.seconds_to_compile < 5  # others may be using the machine
    assert rate.passes_per_second > 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_on_a_gpu_a_later_job_starts_sooner(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # no checkpoints are here
    config = config.model_copy(update={"results": "results/miniature"})
    rates = calibrate(config, torch.device("cuda"), print)
    for rate in rates.models.values():
        assert rate.seconds_per_job > 0
        assert rate.seconds_to_compile > 1
