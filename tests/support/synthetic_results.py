"""A small results folder with made-up scores, written through the library's own contracts.

The accuracies look like those of the miniature; nothing in it was measured.
"""

from __future__ import annotations

import base64
import io
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from genclass.analysis.measure import measure
from genclass.analysis.metrics import write_measured
from genclass.config import Config, Extent, FixedStrategy, parse_config
from genclass.data.image_list import ImageList, ImageRow
from genclass.gallery.evidence import draw_evidence
from genclass.paths import Run
from genclass.racing.schedule import Fixed, race_scores
from genclass.scores.merge import MergedScores, merge
from genclass.scores.score_file import Header, ScoreFile
from genclass.scores.shards import plan_shards
from genclass.specs.spec import ScoredDataset, Spec, specify
from genclass.text import digest

# name -> (title, how hard, candidate classes)
DATASETS: dict[str, tuple[str, float, list[int]]] = {
    "digits": ("Digits", 0.0, list(range(10))),
    "rotation": ("Rotated", 1.3, list(range(10))),
    "noise-1": ("Noise 1", 0.5, list(range(10))),
    "noise-2": ("Noise 2", 1.2, list(range(10))),
    "noise-3": ("Noise 3", 1.8, list(range(10))),
    "sketch": ("Sketch", 1.9, list(range(10))),
    "occlusion": ("Occluded", 1.1, list(range(10))),
    "four": ("Four classes", 0.9, [1, 4, 7, 9]),
}
# name -> (title, architecture, trials, evidence, noise of an image, noise of a trial)
MODELS: dict[str, tuple[str, str, int, float, float, float]] = {
    "randar": ("RandAR", "randar", 20, 6.6, 1.2, 1.3),
    "randar-raster": ("RandAR, raster order", "randar", 1, 4.2, 1.5, 0.0),
    "dit": ("DiT", "dit", 50, 5.8, 1.2, 4.5),
    "sit": ("SiT", "sit", 50, 5.2, 1.3, 4.0),
}
_SECONDS = {"randar": 0.004, "dit": 0.003, "sit": 0.003}
_FLOPS = {"randar": 21_000_000, "dit": 34_000_000, "sit": 34_000_000}
RACE = FixedStrategy(kind="fixed", rounds=[(5, 5), (10, 2), (15, 1)])


def make_config(root: Path, **report: Any) -> Config:
    """The config of the folder; `report` replaces keys of its report section."""
    encoders = {"randar": "llamagen_vq", "dit": "autoencoder_kl", "sit": "autoencoder_kl"}
    models = {}
    for name, (title, architecture, trials, *_) in MODELS.items():
        encoder = encoders[architecture]
        models[name] = {
            "title": title,
            "network": {"architecture": architecture, "checkpoint": name, "size": "B"},
            "encoder": {"architecture": encoder, "checkpoint": encoder},
            "classifier": {"orders": "raster"} if name == "randar-raster" else {},
            "trials": trials,
        }
    checkpoints = [*MODELS, "llamagen_vq", "autoencoder_kl"]
    raw = {
        "results": str(root),
        "checkpoints": {c: {"places": [f"file:{c}.pt"], "licence": "MIT"} for c in checkpoints},
        "datasets": {
            name: {
                "title": title,
                "places": [f"file:{name}"],
                "licence": "BSD-3-Clause",
                "labels": "digits",
                "candidates": "present" if len(classes) < 10 else "all",
                "images": 397 if len(classes) == 10 else 159,
                "severity": int(name[-1]) if name.startswith("noise") else None,
                "thumbnails": name != "four",
            }
            for name, (title, _, classes) in DATASETS.items()
        },
        "models": models,
        "evaluations": [{"models": list(MODELS), "datasets": list(DATASETS)}],
        "report": {
            "title": "The paper in miniature",
            "tables": {
                "main": {
                    "kind": "accuracy",
                    "title": "Top-1 accuracy",
                    "caption": "Handwritten digits, clean and shifted.",
                    "rows": [
                        {"model": "randar-raster"},
                        {"model": "randar", "trials": 1, "title": "RandAR, K = 1"},
                        {"model": "randar", "title": "RandAR, K = 20"},
                        {"model": "dit"},
                        {"model": "sit"},
                    ],
                    "columns": list(DATASETS),
                    "mean": True,
                },
                "aggregation": {
                    "kind": "aggregation",
                    "title": "Aggregation over orders",
                    "model": "randar",
                    "datasets": ["digits", "sketch"],
                    "budgets": [1, 2, 5, 10, 20],
                },
            },
            "gallery": [{"models": ["randar", "dit"], "datasets": ["digits", "four"]}],
            **report,
        },
    }
    return parse_config(raw, "synthetic")


def seeded(*parts: object) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32("/".join(map(str, parts)).encode()))


def make_scores(
    model: str, dataset: str, images: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """scores float32 [images, trials, classes], class ids, labels. The seed leaves the images."""
    _, hardness, candidates = DATASETS[dataset]
    _, _, trials, evidence, image_noise, trial_noise = MODELS[model.removesuffix("-racing")]
    class_ids = np.array(candidates)
    columns = seeded(dataset).integers(len(class_ids), size=images)
    random = seeded(model, dataset, *([seed] if seed else []))
    difficulty = seeded(dataset, "difficulty").gamma(2.0, 0.5, size=images)
    scores = -40 + image_noise * random.standard_normal((images, 1, len(class_ids)))
    scores = scores + trial_noise * random.standard_normal((images, trials, len(class_ids)))
    scores[np.arange(images), :, columns] += (evidence - difficulty * (1 + hardness))[:, None]
    return scores.astype(np.float32), class_ids, class_ids[columns]


def make_images(dataset: str, labels: np.ndarray) -> ImageList:
    """The rows of a made-up dataset's image list."""
    rows = []
    for index, label in enumerate(labels.tolist()):
        image_id = f"test/{index:04d}.png"
        rows.append(ImageRow(image_id, image_id, label, digest(f"{dataset}/{image_id}")))
    return ImageList(tuple(rows))


def make_spec(config: Config, model: str, dataset: str, images: ImageList, seed: int) -> Spec:
    """Of a cell whose checkpoints are those of `write_manifests`."""
    section = config.models[model.removesuffix("-racing")]
    racing = {"strategy": RACE} if model.endswith("-racing") else {}
    return specify(
        model=section.model_copy(update=racing),
        dataset=ScoredDataset(dataset, images.sha256, DATASETS[dataset][2]),
        files={part: digest(name) for part, name in section.system.checkpoints.items()},
        seed=seed,
        trials=section.trials,
    )


def write_cell(
    config: Config, model: str, dataset: str, device: str = "Some CPU", seed: int = 0
) -> None:
    """Spec, score files, merged scores, metrics and predictions of one (model, dataset).

    A model `NAME-racing` is NAME, in a race that halves its classes after every fifth trial.
    """
    run, (_, architecture, trials, *_) = config.run, MODELS[model.removesuffix("-racing")]
    images = config.datasets[dataset].images
    scores, class_ids, labels = make_scores(model, dataset, images, seed)
    exhaustive = scores
    image_list = make_images(dataset, labels)
    image_list.write(run.image_list(dataset))
    spec = make_spec(config, model, dataset, image_list, seed)
    if spec.races:
        schedule = Fixed(tuple(RACE.rounds))
        scores = np.stack([race_scores(image, schedule) for image in scores])
    spec.write(run.spec(model, dataset))
    files = []
    extent = config.cells().get((model, dataset), Extent(images, trials, images))
    shards = plan_shards(extent.exhaustive, trials, 200)
    if spec.races:
        shards += plan_shards(images, trials, 200, first=extent.exhaustive, race=True)
    for shard in shards:
        part, asked = slice(shard.image_start, shard.image_stop), spec.of(shard)
        found = scores[part] if shard.race else exhaustive[part]
        passes = int((~np.isnan(found)).sum())
        header = Header(
            spec=asked.sha256,
            shard=shard.name,
            device=device,
            seconds=passes * _SECONDS[architecture] / 10,
            forward_passes=passes,
            flops=passes * _FLOPS[architecture] + len(found) * spec.system.work.image,
            peak_memory=300_000_000,
            class_batch=len(class_ids),
            racing=shard.race,
            versions={"genclass": "0.1.0", "torch": "2.13.0"},
        )
        file = run.shard(model, dataset, shard.name)
        ids = [row.image_id for row in image_list.rows[part]]
        ScoreFile(header, asked.text, ids, class_ids, labels[part], found).write(file)
        files.append(file)
    merged = run.merged(model, dataset)
    record = merge(files, spec, image_list, extent, merged)
    record.write(run.record(model, dataset))
    metrics, predictions = measure(MergedScores(merged, record, spec), spec, record)
    write_measured(
        metrics,
        predictions,
        run.record(model, dataset),
        run.metrics(model, dataset),
        run.predictions(model, dataset),
    )


def rewrite_predictions(root: Path, model: str, dataset: str, frame: pd.DataFrame) -> None:
    """Other predictions of a cell, and metrics that were measured with them."""
    run = Run(root)
    metrics = json.loads(run.metrics(model, dataset).read_text())
    for key in ("predictions", "record"):
        del metrics[key]
    paths = run.record(model, dataset), run.metrics(model, dataset), run.predictions(model, dataset)
    write_measured(metrics, frame, *paths)


def write_config(config: Config) -> None:
    path = Path(config.results) / "config.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(config.model_dump(mode="json")))


def write_manifests(config: Config) -> None:
    sections = {"checkpoints": config.checkpoints, "datasets": config.datasets}
    for kind, downloads in sections.items():
        for name, download in downloads.items():
            manifest = {
                "name": name,
                "kind": "file" if kind == "checkpoints" else "folder",
                "path": f"downloads/{name}",
                "place": download.places[0],
                "bytes": 1_234_567,
                "files": 1,
                "sha256": digest(name),
                "licence": download.licence,
            }
            path = Path(config.results) / f"manifests/{kind}/{name}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(manifest))


def write_gallery(config: Config) -> None:
    """What the rule explain makes of the config's gallery; no image and no evidence is real."""
    for (one, other, dataset), number in config.report.explained.items():
        frames = {}
        specs = {}
        for model in (one, other):
            stem = Path(config.results) / f"predictions/{model}/{dataset}"
            frame = pd.read_parquet(stem.with_suffix(".parquet"))
            whole = frame["budget"] == frame["budget"].max()
            frames[model] = frame[whole].set_index("image_id").sort_index()
            specs[model] = digest(
                (Path(config.results) / f"specs/{model}/{dataset}.json").read_text()
            )
        entries = []
        alone = {}
        for right, wrong in ((one, other), (other, one)):
            ids = frames[right].index[frames[right]["correct"] & ~frames[wrong]["correct"]]
            alone[right] = len(ids)
            for image_id in ids[:number]:
                random = seeded(image_id)
                digit = Image.fromarray(random.integers(0, 255, (8, 8, 3), dtype=np.uint8))
                shown = config.datasets[dataset].thumbnails
                answers = {}
                for model, size in ((one, 4), (other, 8)):
                    evidence = seeded(model, image_id).standard_normal((size, size)).round(3)
                    drawn = draw_evidence(evidence, digit if shown else None, 160)
                    answers[model] = {
                        "predicted": int(frames[model].loc[image_id, "predicted"]),
                        "posterior": float(frames[model].loc[image_id, "posterior"]),
                        "evidence": evidence.tolist(),
                        "map": data_uri(drawn),
                    }
                entries.append(
                    {
                        "image_id": image_id,
                        "right": right,
                        "label": answers[right]["predicted"],
                        "mistaken_for": answers[wrong]["predicted"],
                        "thumbnail": data_uri(digit.resize((160, 160), 0)) if shown else None,
                        "answers": answers,
                    }
                )
        bundle = {
            "dataset": dataset,
            "models": [one, other],
            "specs": specs,
            "budgets": {model: int(frames[model]["budget"].iloc[0]) for model in (one, other)},
            "images": len(frames[one]),
            "right_alone": alone,
            "entries": entries,
        }
        path = Path(config.results) / f"explained/{one}/{other}/{dataset}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(bundle))


def data_uri(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP")
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def write_results(root: Path, **report: Any) -> Config:
    """The whole folder: every model on every dataset."""
    config = make_config(root, **report)
    write_config(config)
    write_manifests(config)
    for model, dataset in config.cells():
        write_cell(config, model, dataset)
    write_gallery(config)
    return config
