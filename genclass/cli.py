"""`genclass`: what a person types."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from genclass.config import Config, load_config, schema
from genclass.errors import GenclassError
from genclass.files import check_writable, writing
from genclass.sources import LockFile, Manifest
from genclass.text import did_you_mean

app = typer.Typer(
    help="Generative image classifiers: inspect, classify, and follow a reproduction.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console()

ConfigOption = Annotated[
    list[Path],
    typer.Option(
        "--config",
        "-c",
        help="A config (config.yaml is the paper); given again: one that overrides its keys.",
    ),
]
DeviceOption = Annotated[
    Literal["auto", "cpu", "cuda"], typer.Option(help="auto: CUDA where there is a GPU.")
]
MINIATURE = [Path("config/miniature.yaml")]


def main() -> None:
    """Run the command line; a GenclassError is one line on stderr and exit code 1."""
    try:
        app()
    except GenclassError as error:
        sys.exit(f"error: {error}")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


@app.command()
def models(config: ConfigOption = MINIATURE) -> None:
    """List the config's models, and whether their checkpoints are on disk."""
    loaded = _load(config)
    table = Table("model", "title", "network", "encoder", "trials", "checkpoints")
    for name, model in loaded.models.items():
        missing = [
            checkpoint
            for checkpoint in model.checkpoints
            if not _on_disk(loaded, "checkpoints", checkpoint)
        ]
        size = model.network.size
        shape = size if isinstance(size, str) else f"{size.layers}x{size.width}"
        table.add_row(
            name,
            model.title,
            f"{model.network.architecture} {shape}",
            model.encoder.architecture,
            str(model.trials),
            f"[yellow]missing: {', '.join(missing)}[/]" if missing else "[green]on disk[/]",
        )
    console.print(table)


@app.command()
def datasets(config: ConfigOption = MINIATURE) -> None:
    """List the config's datasets, and what is on disk."""
    loaded = _load(config)
    table = Table("dataset", "title", "images", "licence", "on disk")
    for name, dataset in loaded.datasets.items():
        present = _on_disk(loaded, "datasets", name)
        where = f"[green]{present.path}[/]" if present else "[yellow]missing[/]"
        table.add_row(name, dataset.title, str(dataset.images), dataset.licence, where)
    console.print(table)


@app.command()
def fetch(config: ConfigOption = MINIATURE) -> None:
    """Download what a config needs, as a run does by itself; or bring back what was deleted."""
    from genclass.data.fetch import fetch_config

    loaded = _load(config)
    if loaded.rehearsal is not None:
        raise GenclassError("a rehearsal needs no downloads: leave `rehearsal` out of the config")
    for manifest in fetch_config(loaded, LockFile.beside(config[0]), loaded.offline):
        console.print(f"{manifest.name}: {manifest.path}", soft_wrap=True, highlight=False)


@app.command()
def classify(
    images: Annotated[list[Path], typer.Argument(help="Image files.")],
    model: Annotated[str, typer.Option("--model", "-m", help="A model of the config.")],
    config: ConfigOption = MINIATURE,
    trials: Annotated[int | None, typer.Option(min=1, help="Default: the model's.")] = None,
    output: Annotated[Path, typer.Option(help="Folder of the evidence maps.")] = Path("evidence"),
    device: DeviceOption = "auto",
) -> None:
    """Print the five best classes of each image, and save a map of where the evidence lies."""
    # Imported here: the other commands answer without waiting for torch.
    from genclass.data.class_lists import ClassList
    from genclass.data.images import decode
    from genclass.gallery.classify import classify as classify_image
    from genclass.gallery.classify import save_evidence
    from genclass.jobs.worker import choose_device
    from genclass.scorers.build import build_classifier

    loaded = _load(config)
    if model not in loaded.models:
        raise GenclassError(f"unknown model '{model}': {did_you_mean(model, loaded.models)}")
    section = loaded.models[model]
    budget = trials or section.trials
    limit = section.classifier.trial_limit
    if limit is not None and budget > limit:
        raise GenclassError(f"--trials {budget}: {model} has {limit} different trials")
    labels = next((loaded.datasets[d].labels for m, d in loaded.cells() if m == model), None)
    if labels is None:
        raise GenclassError(f"model '{model}' is in no evaluation of the config: add it to one")
    names = {entry.class_id: entry.name for entry in ClassList.load(labels).entries}
    decoded = [decode(image) for image in images]  # a wrong path is said before the network loads
    network, encoder = (_checkpoint(loaded, name, config) for name in section.checkpoints)
    classifier = build_classifier(
        section.network,
        section.encoder,
        section.classifier,
        section.image_size,
        network,
        encoder,
        choose_device(device),
    )
    for path, image in zip(images, decoded, strict=True):
        result = classify_image(classifier, image, path.name, section, loaded.seed, budget, best=5)
        table = Table("class", "posterior", title=str(path), title_justify="left")
        for class_id, posterior in zip(result.classes, result.posterior, strict=True):
            table.add_row(names.get(int(class_id), str(class_id)), f"{posterior:.4f}")
        console.print(table)
        target = output / f"{path.stem}.{model}.png"
        with writing(target):
            save_evidence(result, target)
        best, second = (names.get(int(c), str(c)) for c in result.classes[:2])
        console.print(f"evidence for {best} (orange) against {second} (blue): {target}\n")


@app.command()
def show(config: ConfigOption = MINIATURE) -> None:
    """Print the main table of the last report, and where the report is."""
    summary = Path(_load(config).results) / "report" / "summary.txt"
    if not summary.is_file():
        given = " ".join(map(str, config))
        raise GenclassError(f'{summary}: there is no report yet: make reproduce CONFIG="{given}"')
    sys.stdout.write(summary.read_text(encoding="utf-8"))


@app.command()
def compare(
    first: Annotated[Path, typer.Argument(metavar="RUN_A", help="A results folder.")],
    second: Annotated[Path, typer.Argument(metavar="RUN_B", help="Another one.")],
    images: Annotated[int, typer.Option(min=0, help="Changed images shown of each cell.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Everything, for programs.")] = False,
) -> None:
    """Show what changed between two results folders: cell by cell, and image by image."""
    from genclass.reporting import compare as comparison
    from genclass.reporting.results import Results

    runs = Results(first), Results(second)
    cells = comparison.compare(*runs)
    if as_json:
        sys.stdout.write(comparison.as_json(*runs, cells) + "\n")
    else:
        comparison.print_comparison(*runs, cells, images, console)


@app.command()
def bench(
    output: Annotated[Path, typer.Option(help="Where the numbers are written.")] = Path(
        "bench.json"
    ),
    device: DeviceOption = "auto",
    classes: Annotated[
        int | None, typer.Option(min=1, help="At once; 125 on a GPU, 8 on a CPU.")
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Timings of each; medians count.")] = 3,
) -> None:
    """Measure scoring against this machine's matrix rate and the plain way to do it."""
    from genclass.jobs.worker import choose_device
    from genclass.planning.bench import bench_command

    bench_command(choose_device(device), classes, repeats, output, console)


@app.command("race-replay")
def race_replay(
    scores: Annotated[list[Path], typer.Argument(help="Exhaustive score files, whole folders.")],
    delta: Annotated[
        list[float] | None, typer.Option(help="Error of racing; may be given again.")
    ] = None,
    rounds: Annotated[
        str | None, typer.Option(help="A fixed schedule, too: TRIALS:KEEP,..., e.g. 1:100,4:10.")
    ] = None,
    scale: Annotated[
        float | None, typer.Option(help="Of the noise; else measured as a pilot would.")
    ] = None,
    freedom: Annotated[float | None, typer.Option(help="Of the noise, with --scale.")] = None,
    chart: Annotated[Path, typer.Option(help="To draw: .html, .svg, .png or .json.")] = Path(
        "race-replay.html"
    ),
) -> None:
    """Replay races on exhaustive scores, without the network: what they would answer and cost."""
    from genclass.racing.replay import DELTAS, replay_command
    from genclass.racing.schedule import Fixed, Noise

    if (scale is None) != (freedom is None):
        raise GenclassError("--scale and --freedom belong together: give both or neither")
    told = None if scale is None or freedom is None else Noise(scale, freedom)
    replay_command(
        scores, told, delta or DELTAS, Fixed.parse(rounds) if rounds else None, chart, console
    )


@app.command()
def plan(
    config: ConfigOption = MINIATURE,
    gpu: Annotated[str | None, typer.Option(help="A GPU by name: a guess, no calibration.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Everything, for programs.")] = False,
) -> None:
    """Say what a config would take: passes, FLOPs, hours, downloads, disk; and what is done."""
    from genclass.planning.plan import plan_command

    plan_command(_load(config), gpu, as_json, console)


@app.command()
def status(config: ConfigOption = MINIATURE) -> None:
    """Show how far a reproduction is: shards, failures and their logs, speed, remaining time."""
    from genclass.planning.status import status_command

    status_command(_load(config), console)


@app.command()
def calibrate(
    config: ConfigOption = MINIATURE,
    device: DeviceOption = "auto",
    threads: Annotated[int, typer.Option(min=1, help="Of a job on the CPU.")] = 1,
) -> None:
    """Measure how fast this machine runs each model of a config, for its plan."""
    import torch

    from genclass.jobs.worker import choose_device
    from genclass.planning.calibrate import calibrate as measure
    from genclass.planning.rates import calibration_path

    loaded = _load(config)
    path = calibration_path(loaded)
    check_writable(path)
    torch.set_num_threads(threads)
    measure(loaded, choose_device(device), console.print).write(path)
    console.print(f"written to {path}")


@app.command("schema")
def print_schema() -> None:
    """Print the JSON schema of config files: genclass schema > config/schema.json."""
    sys.stdout.write(schema())


def _load(paths: list[Path]) -> Config:
    """The config as the workflow runs it: a rehearsal has a folder of its own."""
    from genclass.jobs.rehearsal import rehearsed  # takes its time

    return rehearsed(load_config(*paths))


def _on_disk(config: Config, kind: str, name: str) -> Manifest | None:
    """The manifest of something that was fetched and still lies where it says."""
    path = Path(config.results) / "manifests" / kind / f"{name}.json"
    if not path.is_file():
        return None
    manifest = Manifest.read(path)
    return manifest if Path(manifest.path).exists() else None


def _checkpoint(config: Config, name: str, paths: list[Path]) -> Path:
    manifest = _on_disk(config, "checkpoints", name)
    if manifest is None:
        given = " ".join(f"-c {path}" for path in paths)
        raise GenclassError(
            f"checkpoint '{name}' is not on disk: run the workflow, or: genclass fetch {given}"
        )
    return Path(manifest.path)
