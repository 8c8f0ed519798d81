"""What every family promises, and what is asked of all of them: the contract of design and docs.

It runs over all that are registered: the package's, those of installed packages, and the plugin of
examples/.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from genclass.analysis.measure import measure
from genclass.config import Config, Extent, parse_config
from genclass.data.image_list import ImageList, ImageRow
from genclass.families import ENCODERS, FAMILIES, ROLES, Encoder, Family, load_plugins
from genclass.files import sha256_of
from genclass.jobs.evaluate import evaluate
from genclass.jobs.rehearsal import make_image_list, make_scores
from genclass.jobs.worker import Job
from genclass.planning.plan import plan
from genclass.planning.rates import Rate, Rates
from genclass.scorers.draws import Draws
from genclass.scorers.fitting import score_image
from genclass.scorers.scorer import Prepared, Scorer
from genclass.scores.merge import MergedScores, merge
from genclass.scores.score_file import ScoreFile
from genclass.scores.shards import Shard
from genclass.specs.spec import ScoredDataset, Spec, specify
from tests.support import small_families
from tests.support.small_families import CLASSES, SMALL
from tests.support.small_networks import counting_necessary

REPOSITORY = Path(__file__).parents[2]
load_plugins([REPOSITORY / "examples/gaussians.py"])

RANDOM = np.random.default_rng(1)
IMAGES = [
    Image.fromarray(RANDOM.integers(0, 256, (*size, 3), dtype=np.uint8))
    for size in ((20, 26), (9, 8))
]
TOLERANCE = {"float32": 1e-5, "bfloat16": 0.02}  # of a score, relative to the largest


@dataclass(frozen=True)
class Recorded(Draws):
    """Draws that note what was drawn."""

    drawn: set[tuple[str, int | None]] = field(default_factory=set, compare=False)

    def generator(self, purpose: str, trial: int | None = None) -> np.random.Generator:
        self.drawn.add((purpose, trial))
        return super().generator(purpose, trial)


def draws(index: int = 0) -> Recorded:
    return Recorded(seed=3, dataset="digits", image_id=f"digit-1/{index}.png")


def trials_of(scorer: Scorer) -> int:
    return min(scorer.system.trial.limit or 3, 3)


def scored(scorer: Scorer, prepared: Prepared, trials: range) -> Tensor:
    """Class by class and trial by trial: float32 [trials, classes]."""
    scores, _ = score_image(scorer, prepared, trials, torch.arange(CLASSES), batch=1)
    return torch.from_numpy(scores)


def close(found: Tensor, expected: Tensor, dtype: str = "float32") -> None:
    torch.testing.assert_close(
        found, expected, rtol=0, atol=TOLERANCE[dtype] * float(expected.abs().max())
    )


def test_every_family_has_a_small_one() -> None:
    assert set(SMALL) >= set(FAMILIES), "add a small one to tests/support/small_families.py"


@pytest.fixture(scope="module", params=list(small_families.variants()), ids="-".join)
def scorer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Scorer:
    architecture, variant = request.param
    return small_families.load(architecture, tmp_path_factory.mktemp(architecture), variant)


class TestScores:
    def test_do_not_depend_on_their_batch(self, scorer: Scorer) -> None:
        trials = trials_of(scorer)
        prepared = [scorer.prepare(image, draws(index)) for index, image in enumerate(IMAGES)]
        alone = [scored(scorer, each, range(trials)) for each in prepared]
        together, _ = score_image(scorer, prepared[0], range(trials), range(CLASSES), CLASSES)
        close(torch.from_numpy(together), alone[0])
        entries = [
            (image, trial, label)
            for label in range(CLASSES)
            for image in (0, 1)
            for trial in range(trials)
        ]
        with torch.inference_mode():
            mixed = scorer.score(
                [prepared[image] for image, _, _ in entries],
                [trial for _, trial, _ in entries],
                torch.tensor([label for _, _, label in entries]),
            )
        assert mixed.dtype == torch.float32
        close(mixed, torch.stack([alone[i][trial, label] for i, trial, label in entries]))
        assert torch.isfinite(mixed).all()

    def test_of_trials_are_nested(self, scorer: Scorer) -> None:
        """A trial is the same whichever were scored before, and how many there will be."""
        trials = trials_of(scorer)
        whole = scored(scorer, scorer.prepare(IMAGES[0], draws()), range(trials))
        again = scorer.prepare(IMAGES[0], draws())
        backwards = [scored(scorer, again, range(t, t + 1)) for t in reversed(range(trials))]
        close(torch.cat(backwards[::-1]), whole)

    def test_are_the_same_bytes_however_trials_are_divided(self, scorer: Scorer) -> None:
        """Trials of a few classes share their batches; where a shard begins moves no rounding."""
        prepared = scorer.prepare(IMAGES[0], draws())
        trials = range(min(scorer.system.trial.limit or 12, 12))

        def bytes_of(*parts: range) -> bytes:
            few = range(CLASSES)
            found = [score_image(scorer, prepared, part, few, 20 * CLASSES) for part in parts]
            return np.concatenate([scores for scores, _ in found]).tobytes()

        whole = bytes_of(trials)
        assert bytes_of(*filter(len, (trials[:4], trials[4:6], trials[6:]))) == whole
        assert bytes_of(*(trials[t : t + 1] for t in trials)) == whole

    def test_see_the_same_draws_in_all_classes(self, scorer: Scorer) -> None:
        """Whatever is drawn is drawn of the image and the trial, and again for every class."""
        prepared = scorer.prepare(IMAGES[0], draws())
        assert isinstance(prepared.draws, Recorded)
        assert {trial for _, trial in prepared.draws.drawn} <= {None}
        for trial in range(trials_of(scorer)):
            found = []
            for label in range(CLASSES):
                prepared.draws.drawn.clear()
                with torch.inference_mode():
                    scorer.score([prepared], [trial], torch.tensor([label]))
                found.append(set(prepared.draws.drawn))
            assert all(each == found[0] for each in found)
            assert {of for _, of in found[0]} <= {None, trial}

    def test_of_trials_differ_unless_there_is_one(self, scorer: Scorer) -> None:
        limit = scorer.system.trial.limit
        if limit == 1:
            return
        rows = scored(scorer, scorer.prepare(IMAGES[0], draws()), range(trials_of(scorer)))
        assert len({tuple(row) for row in rows.tolist()}) == len(rows)

    def test_of_parts(self, scorer: Scorer) -> None:
        """The last part is the whole; a part depends on no batch either."""
        parts = len(scorer.system.work.parts)
        prepared = [scorer.prepare(image, draws(index)) for index, image in enumerate(IMAGES)]
        last = trials_of(scorer) - 1
        with torch.inference_mode():
            for part in range(1, parts + 1):
                mixed = scorer.score(prepared, [last, last], torch.tensor([2, 2]), part)
                alone = scorer.score(prepared[:1], [last], torch.tensor([2]), part)
                close(mixed[:1], alone)
            if parts:
                whole = scorer.score(prepared, [last, last], torch.tensor([2, 2]))
                close(mixed, whole)

    def test_evidence_sums_to_their_difference(self, scorer: Scorer) -> None:
        trials = range(trials_of(scorer))
        prepared = scorer.prepare(IMAGES[0], draws())
        evidence = scorer.evidence(prepared, trials, 4, 2)
        if evidence is None:
            return
        mean = scored(scorer, prepared, trials).mean(dim=0)
        assert evidence.ndim == 2
        assert evidence.device.type == "cpu"
        tolerance = 1e-5 * float(mean.abs().max())
        assert float(evidence.sum()) == pytest.approx(float(mean[4] - mean[2]), abs=tolerance)


class TestWork:
    def test_of_a_score_is_what_torch_counts(self, scorer: Scorer) -> None:
        prepared, work = scorer.prepare(IMAGES[0], draws()), scorer.system.work
        if prepared.encoded is None:  # a crop a trial: it is encoded when the first class is scored
            return
        levels = getattr(scorer.system.options, "levels", 1)  # trials that cost differently much
        for part, operations in [(None, work.score), *enumerate(work.parts, start=1)]:
            with counting_necessary() as counted, torch.inference_mode():
                for trial in range(levels):
                    scorer.score([prepared], [trial], torch.tensor([1]), part)
            assert counted() / levels == pytest.approx(operations, rel=0.01), part

    def test_of_an_image_is_what_torch_counts(self, scorer: Scorer) -> None:
        with counting_necessary() as counted:
            prepared = scorer.prepare(IMAGES[0], draws())
        if prepared.encoded is None:
            return
        latent_alone = isinstance(prepared.encoded, Tensor) and prepared.encoded.ndim == 4
        tolerance = 0.05 if latent_alone else 0.01  # what quantises it is counted, too
        assert counted() == pytest.approx(scorer.system.work.image, rel=tolerance)


@pytest.mark.parametrize("architecture", ENCODERS)
def test_work_of_a_released_encoder_is_what_torch_counts(architecture: str) -> None:
    card = ENCODERS[architecture].model_validate(
        {"architecture": architecture, "checkpoint": "unnamed"}
    )
    with torch.device("meta"), torch.inference_mode():
        encoder: Any = card.build()
        with counting_necessary() as counted:
            latent = encoder.encode(torch.empty(1, 3, 256, 256))
            if hasattr(encoder, "quantize"):
                codes = encoder.quantize(latent)
                if hasattr(encoder.quantize, "inputs"):  # what the network reads
                    encoder.quantize.inputs(codes)
    assert counted() == pytest.approx(card.operations(256), rel=0.01)


@pytest.mark.parametrize("architecture", SMALL)
def test_bfloat16_is_close(architecture: str, tmp_path: Path) -> None:
    full, half = (
        scored(found, found.prepare(IMAGES[0], draws()), range(trials_of(found)))
        for dtype in ("float32", "bfloat16")
        for found in [small_families.load(architecture, tmp_path, dtype=dtype)]
    )
    assert half.dtype == torch.float32
    close(half, full, "bfloat16")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """All families, as models of one config."""
    folder = tmp_path_factory.mktemp("run")
    models = {
        architecture: small_families.section(architecture)
        | {"title": architecture, "trials": trials}
        for architecture in SMALL
        for trials in [min(small_families.system_of(architecture).trial.limit or 3, 3)]
    }
    checkpoints = [
        name
        for architecture in SMALL
        for name in small_families.system_of(architecture).checkpoints.values()
    ]
    (folder / "classes.csv").write_text(
        "class_id,folder,name\n" + "".join(f"{c},class-{c},{c}\n" for c in range(CLASSES))
    )
    return parse_config(
        {
            "results": str(folder / "results"),
            "checkpoints": {c: {"places": [f"file:{c}"], "licence": "MIT"} for c in checkpoints},
            "datasets": {
                "noise": {
                    "title": "Noise",
                    "places": ["file:noise"],
                    "licence": "MIT",
                    "labels": str(folder / "classes.csv"),
                    "images": 12,
                }
            },
            "models": models,
            "evaluations": [{"models": list(models), "datasets": ["noise"]}],
            "report": {
                "title": "All",
                "tables": {
                    "main": {
                        "kind": "accuracy",
                        "title": "Main",
                        "caption": "Noise.",
                        "rows": [{"model": name} for name in models],
                        "columns": ["noise"],
                    }
                },
            },
        },
        "test",
    )


def spec_of(config: Config, architecture: str, images: ImageList, files: dict[str, str]) -> Spec:
    model = config.models[architecture]
    candidates = list(range(CLASSES))
    dataset = ScoredDataset("noise", images.sha256, candidates)
    return specify(model, dataset, files, seed=1, trials=model.trials)


class TestEverythingElse:
    """Plan, rehearsal, evaluation, race and measurement, of every family."""

    def test_cards_say_what_is_asked(self, config: Config) -> None:
        for name, model in config.models.items():
            system = model.system
            assert system.role in ROLES, name
            assert system.trial.noun
            assert system.likelihood in (True, False)
            assert (system.work.score > 0) != (system.work.passes_an_image > 0)

    def test_plan(self, config: Config) -> None:
        rates = Rates("device", "test", {name: Rate(10.0, 0.1, 1.0) for name in config.models})
        cells = {cell.model: cell for cell in plan(config, rates).cells}
        for name, model in config.models.items():
            passes = 12 if model.system.work.passes_an_image else 12 * model.trials * CLASSES
            assert cells[name].passes == passes
            assert cells[name].flops > 0

    @pytest.mark.parametrize("architecture", SMALL)
    def test_rehearsal_merge_and_measurement(
        self, config: Config, architecture: str, tmp_path: Path
    ) -> None:
        section = config.datasets["noise"]
        images = make_image_list("noise", section, CLASSES, seed=1)
        files = dict.fromkeys(config.models[architecture].system.checkpoints, "0" * 64)
        spec, trials = (
            spec_of(config, architecture, images, files),
            config.models[architecture].trials,
        )
        shard = Shard(0, len(images), 0, trials)
        file = tmp_path / f"{shard.name}.safetensors"
        make_scores(spec, shard, images, 2, file)
        record = merge(
            [file], spec, images, Extent(len(images), trials, len(images)), tmp_path / "merged"
        )
        merged = MergedScores(tmp_path / "merged", record, spec)
        metrics, predictions = measure(merged, spec, record)
        assert metrics["role"] == spec.system.role
        assert len(predictions) == len(images) * trials

    @pytest.mark.parametrize("architecture", SMALL)
    def test_evaluation_and_race(self, config: Config, architecture: str, tmp_path: Path) -> None:
        model = config.models[architecture]
        rows = []
        for index, image in enumerate(IMAGES):
            path = tmp_path / f"{index}.png"
            image.save(path)
            rows.append(ImageRow(path.name, path.name, index, sha256_of(path)))
        images = ImageList(tuple(rows))
        files = small_families.write_weights(model.system, tmp_path)
        sums = {part: sha256_of(path) for part, path in files.items()}
        spec = spec_of(config, architecture, images, sums)
        shard = Shard(0, len(rows), 0, model.trials)

        def run(spec: Spec) -> np.ndarray:
            job = Job(
                spec=spec,
                shard=replace(shard, race=spec.races),
                image_list=images,
                folder=tmp_path,
                files=files,
                partial=tmp_path / "partial",
                compiled=tmp_path / "compiled",
                device=small_families.CPU,
                class_batch=4,
            )
            destination = tmp_path / spec.sha256[:8] / f"{shard.name}.safetensors"
            destination.parent.mkdir()
            evaluate(job, destination)
            return ScoreFile.read(destination).scores

        scores = run(spec)
        assert np.isfinite(scores).all()
        system = model.system
        if not system.work.score:
            return
        parts = [[len(system.work.parts) - 1, CLASSES - 1]] if system.work.parts else []
        strategy: dict[str, Any] = {"kind": "fixed", "parts": parts, "rounds": [[1, 2]]}
        raced = run(
            Spec.model_validate(spec.model_dump() | {"strategy": strategy, "budget": model.trials})
        )
        done = ~np.isnan(raced)
        assert done[:, 0].sum(axis=1).tolist() == [CLASSES - len(parts)] * 2
        assert (done[:, 1:].sum(axis=2) == 2).all()
        np.testing.assert_allclose(raced[done], scores[done], rtol=1e-4)


class TestTheHouse:
    """Only families/, models/ and scorers/ know families by name."""

    ROOMS = ("families", "models", "scorers")
    SHARED = ("genclass.families.card", "genclass.scorers.draws", "genclass.scorers.scorer")
    SHARED += ("genclass.scorers.fitting",)

    def modules(self) -> Iterator[Path]:
        for path in sorted((REPOSITORY / "genclass").rglob("*.py")):
            if path.relative_to(REPOSITORY / "genclass").parts[0] not in self.ROOMS:
                yield path
        yield from sorted((REPOSITORY / "workflow_scripts").glob("*.py"))

    def test_no_other_module_names_a_family(self) -> None:
        architectures = {*FAMILIES, *ENCODERS}
        cards = {card.__name__ for card in (*FAMILIES.values(), *ENCODERS.values())}
        cards |= {base.__name__ for card in FAMILIES.values() for base in card.__mro__}
        cards -= {base.__name__ for base in Family.__mro__} | {Encoder.__name__}
        found = []
        for path in self.modules():
            place = os.path.relpath(path, REPOSITORY)
            for node in ast.walk(ast.parse(path.read_text())):
                line = getattr(node, "lineno", 0)
                if isinstance(node, ast.Constant) and node.value in architectures:
                    found.append(f"{place}:{line}: '{node.value}'")
                if isinstance(node, ast.Name | ast.Attribute):
                    name = node.id if isinstance(node, ast.Name) else node.attr
                    if name in cards:
                        found.append(f"{place}:{line}: {name}")
        assert not found

    def test_no_other_module_imports_a_network_card_or_scorer(self) -> None:
        found = []
        for path in self.modules():
            place = os.path.relpath(path, REPOSITORY)
            for node in ast.walk(ast.parse(path.read_text())):
                names: list[str] = []
                if isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom) and node.module:
                    module = node.module
                    rooms = {f"genclass.{room}" for room in self.ROOMS} - {"genclass.families"}
                    names = (
                        [f"{module}.{alias.name}" for alias in node.names]
                        if module in rooms
                        else [module]
                    )
                for name in names:
                    room = name.startswith(tuple(f"genclass.{room}." for room in self.ROOMS))
                    if room and name not in self.SHARED:
                        found.append(f"{place}:{getattr(node, 'lineno', 0)}: {name}")
        assert not found
