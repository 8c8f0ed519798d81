"""What a run would take, and how fast this machine is."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import typer

from genclass.cli.options import MINIATURE, ConfigOption, DeviceOption, JsonOption, load
from genclass.cli.terminal import TERMINAL, Heading, Listing, Terminal, duration, short
from genclass.files import check_writable
from genclass.sources import HubPlace, UrlPlace, parse_place

GpuOption = Annotated[str | None, typer.Option(help="A GPU by name: a guess, no calibration.")]

if TYPE_CHECKING:  # each command imports what it needs: the others answer at once
    from genclass.config import Config
    from genclass.planning.bench import Measurement
    from genclass.planning.budget import Budget, Forecast, Wish
    from genclass.planning.plan import Plan, PlannedCell
    from genclass.planning.rates import Rates

CURVE = (8.0, 24.0, 100.0)  # hours that a plan of hours is held against


def plan(
    config: ConfigOption = MINIATURE,
    gpu: GpuOption = None,
    hours: Annotated[
        float | None, typer.Option(min=0.0, help="What so many more GPU-hours would decide.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say what a config would take: passes, FLOPs, hours, downloads, disk; and what is done."""
    from genclass.planning.plan import plan as plan_config
    from genclass.planning.rates import choose_rates

    loaded = load(config)
    rates = choose_rates(loaded, gpu)
    if hours is not None:
        _plan_hours(loaded, hours, rates, as_json)
        return
    found = plan_config(loaded, rates)
    if as_json:
        sys.stdout.write(found.as_json() + "\n")
    else:
        show_plan(found, TERMINAL)


def _plan_hours(config: Config, hours: float, rates: Rates, as_json: bool) -> None:
    from genclass.planning.allotment import narrowed
    from genclass.planning.budget import costs_of, forecast
    from genclass.planning.plan import plan as plan_config
    from genclass.reporting.so_far import wishes_so_far

    wanted, decided = wishes_so_far(config)
    costs = costs_of(config, rates)
    curve = [forecast(config, some, costs, wanted) for some in sorted({hours, *CURVE, math.inf})]
    asked = next(one for one in curve if one.hours == hours)
    found = plan_config(narrowed(config, asked.images), rates)
    if as_json:
        sys.stdout.write(json.dumps(forecast_record(asked, curve, found), indent=1) + "\n")
    else:
        show_forecast(asked, curve, len(decided), config, TERMINAL)
        TERMINAL.say()
        show_downloads(found, TERMINAL)


def forecast_record(asked: Forecast, curve: Sequence[Forecast], plan: Plan) -> dict[str, Any]:
    """Everything, for programs."""
    return {
        "hours": asked.hours,
        "device": plan.device,
        "origin": plan.origin,
        "images": [
            {"model": m, "dataset": d, "images": images} for (m, d), images in asked.images.items()
        ],
        "comparisons": [
            {
                "claim": wish.claim,
                "comparison": wish.title,
                "datasets": list(wish.datasets),
                "chance": chance,
                "half_width": wish.half_width(asked.of(wish)),
            }
            for wish, chance in zip(asked.wishes, asked.chances, strict=True)
        ],
        "curve": [
            {
                "hours": one.hours if math.isfinite(one.hours) else None,
                "verdicts": sum(one.chances),
            }
            for one in curve
        ],
        "downloads": [asdict(download) for download in plan.downloads],
        "totals": plan.totals,
    }


def show_forecast(
    asked: Forecast, curve: Sequence[Forecast], decided: int, config: Config, terminal: Terminal
) -> None:
    """Print the images that hours would buy, the chance of each verdict, and more hours' worth."""
    images: dict[str, list[int]] = {}
    for (_, dataset), number in asked.images.items():
        images.setdefault(dataset, []).append(number)
    table = Listing("test set", Heading("models", number=True), Heading("images", number=True))
    for dataset, numbers in images.items():
        asked_for = config.datasets[dataset].images
        table.add(dataset, str(len(numbers)), f"{_range(numbers)} of {asked_for:,}")
    terminal.table(table)
    terminal.say()
    verdicts = Listing(
        Heading("comparison", wraps=True),
        *(Heading(name, number=True) for name in ("interval", "chance", "set by set")),
    )
    comparisons: dict[tuple[str, str], list[tuple[Wish, float]]] = {}
    for wish, chance in zip(asked.wishes, asked.chances, strict=True):
        comparisons.setdefault((wish.claim, wish.title), []).append((wish, chance))
    for (_, title), found in comparisons.items():
        sets = max(len(wish.datasets) for wish, _ in found)
        means = [(wish, chance) for wish, chance in found if len(wish.datasets) == sets]
        singles = [chance for wish, chance in found if len(wish.datasets) < sets]
        wish, chance = means[0]
        half = wish.half_width(asked.of(wish))
        verdicts.add(
            title,
            "-" if half is None else f"±{100 * half:.0f} points",
            f"{chance:.0%}",
            f"{sum(singles):.1f} of {len(singles)}" if singles else "",
        )
    terminal.table(verdicts)
    terminal.say()
    if decided:
        terminal.say(f"{decided} more comparisons are decided already.")
    for one in curve:
        name = f"{one.hours:g} hours" if math.isfinite(one.hours) else "all images"
        terminal.say(
            f"{name}: {sum(one.chances):.0f} of {len(one.chances)} verdicts to be expected"
        )


def _range(numbers: Sequence[int]) -> str:
    least, most = min(numbers), max(numbers)
    return f"{least:,} to {most:,}" if least < most else f"{most:,}"


def budget(
    config: ConfigOption = MINIATURE,
    hours: Annotated[
        float | None, typer.Option(min=0.0, help="Of one GPU, in all; the config's, if not given.")
    ] = None,
    gpu: GpuOption = None,
    rehearsal: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="Of `make rehearsal`, at this share.")
    ] = None,
) -> None:
    """Decide how many images each evaluation gets in so many GPU-hours, before a run starts.

    Without hours: all of them, at once. Exits with 3 where no further stage of the hours is left.
    """
    from genclass.planning.budget import costs_of, decide
    from genclass.planning.rates import choose_rates
    from genclass.reporting.so_far import wishes_so_far

    loaded = load(config, rehearsal)
    hours = hours or loaded.hours
    if hours is None:
        loaded.run.budget.unlink(missing_ok=True)
        raise typer.Exit(3)
    wanted, decided = wishes_so_far(loaded)
    found = decide(loaded, hours, costs_of(loaded, choose_rates(loaded, gpu)), wanted)
    found.allotment.write(loaded.run.budget)
    show_budget(found, len(wanted), len(decided), TERMINAL)
    if not found.more:
        raise typer.Exit(3)


def calibrate(
    config: ConfigOption = MINIATURE,
    device: DeviceOption = "auto",
    threads: Annotated[int, typer.Option(min=1, help="Of a job on the CPU.")] = 1,
) -> None:
    """Measure how fast this machine runs each model of a config, for its plan."""
    import torch

    from genclass.jobs.worker import choose_device
    from genclass.planning.calibrate import calibrate as measure

    loaded = load(config)
    path = loaded.run.calibration
    check_writable(path)
    torch.set_num_threads(threads)
    measure(loaded, choose_device(device), TERMINAL.say).write(path)
    TERMINAL.say(f"written to {path}")


def bench(
    output: Annotated[Path, typer.Option(help="Where the numbers are written.")] = Path(
        "bench.json"
    ),
    device: DeviceOption = "auto",
    classes: Annotated[
        int | None, typer.Option(min=1, help="At once; 1000 on a GPU, 8 on a CPU.")
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Timings of each; medians count.")] = 3,
) -> None:
    """Measure scoring against this machine's matrix rate and the plain way to do it."""
    from genclass.jobs.worker import choose_device
    from genclass.planning.bench import bench as measure
    from genclass.planning.bench import write_measurements

    check_writable(output)
    measurements: list[Measurement] = []
    for measurement in measure(choose_device(device), classes, repeats):
        measurements.append(measurement)
        write_measurements(measurements, output)
        TERMINAL.say(
            f"{measurement.network} {measurement.dtype}: {measurement.share:.2f} of the matrix rate"
        )
    show_bench(measurements, TERMINAL)
    TERMINAL.say(f"written to {output}")


def show_plan(plan: Plan, terminal: Terminal) -> None:
    """Print a plan as tables; they fit into 80 columns."""
    done = plan.totals["passes_done"] > 0
    numbers = ["images\nx classes\nx trials", "jobs", "passes", "FLOPs", "time"]
    work = Listing(
        "model, dataset",
        *(Heading(name, number=True) for name in [*numbers, *(["done"] if done else [])]),
    )
    models: dict[str, list[PlannedCell]] = {}
    for cell in plan.cells:
        models.setdefault(cell.model, []).append(cell)
    for model, cells in models.items():
        work.add(_raced(model, cells), "", *_columns(plan.sums(model), done), style="bold")
        for cell in cells:
            size = f"{cell.images}x{cell.classes}x{cell.trials}"
            work.add(f" {cell.dataset}", size, *_columns(asdict(cell), done))
    work.section()
    work.add("total", "", *_columns(plan.totals, done), style="bold")
    terminal.table(work)
    terminal.say()
    show_downloads(plan, terminal)
    terminal.say(
        f"Left to do: {duration(plan.totals['seconds_left'])} of one {plan.device} ({plan.origin})."
    )


def _hours(number: float) -> str:
    return f"{number:.1f}" if number >= 1 else f"{number:.2g}"


def show_downloads(plan: Plan, terminal: Terminal) -> None:
    """Print what comes from outside, and what of it is there."""
    if plan.downloads:
        files = Listing(
            "download", Heading("size", number=True), Heading("from", wraps=True), "on disk"
        )
        for download in plan.downloads:
            first, *more = download.names
            files.add(
                f"{first} and {len(more)} more" if more else first,
                "unknown" if download.bytes is None else short(download.bytes, "B"),
                _site(download.place),
                "yes" if download.done else "no",
            )
        terminal.table(files)
        terminal.say()
    totals = plan.totals
    unknown = int(totals["downloads_of_unknown_size"])
    plural = "s" if unknown > 1 else ""
    more_files = f", and {unknown} file{plural} of unknown size" if unknown else ""
    terminal.say(f"Disk for everything, at most: {short(totals['disk_bytes'], 'B')}{more_files}.")


def _raced(model: str, cells: list[PlannedCell]) -> str:
    """A model's name, with the share of the passes that its races are counted with."""
    shares = [cell.race_share for cell in cells if cell.race_share]
    if not shares:
        return model
    known = all(cell.race_share_is_measured for cell in cells if cell.race_share)
    return f"{model} (races{'' if known else ' about'} 1/{len(shares) / sum(shares):.3g})"


def show_budget(budget: Budget, undecided: int, decided: int, terminal: Terminal) -> None:
    """Print what is spent, what is decided, and up to where each evaluation goes now."""
    hours = budget.allotment.hours
    terminal.say(
        f"spent {_hours(budget.spent)} of {hours:g} hours; {decided} of {undecided + decided} "
        f"comparisons are decided"
    )
    if not budget.more:
        return
    datasets: dict[str, list[int]] = {}
    for (_, dataset), images in budget.allotment.cells().items():
        datasets.setdefault(dataset, []).append(images)
    for dataset, numbers in datasets.items():
        models = f"{len(numbers)} model{'s' if len(numbers) > 1 else ''}"
        terminal.say(f"  {dataset}: {_range(numbers)} images, {models}")


def _columns(work: Mapping[str, Any], done: bool) -> list[str]:
    """Jobs, passes, FLOPs, time and, where anything is done, the share of it."""
    columns = [
        f"{work['shards']:,}",
        short(work["passes"]),
        short(work["flops"]),
        duration(work["seconds"]),
    ]
    return [*columns, f"{work['passes_done'] / work['passes']:.0%}"] if done else columns


def _site(text: str) -> str:
    """A place's server, or its repository on the hub."""
    place = parse_place(text)
    if isinstance(place, HubPlace):
        return f"hf://{place.page}"
    return urlsplit(place.url).netloc if isinstance(place, UrlPlace) else str(place)


def show_bench(measurements: list[Measurement], terminal: Terminal) -> None:
    """Print what was measured, on one machine."""
    from genclass.planning.bench import OFFICIAL

    numbers = (
        *("matrix", "genclass", "share", "plain", "speed-up", "over official", "memory"),
        *("plain memory", "warm-up", "difference"),
    )
    table = Listing("network", "dtype", *(Heading(name, number=True) for name in numbers), names=2)
    for m in measurements:
        matrix, ours, plain = (
            f"{rate / 1e12:.3g}" for rate in (m.matrix_rate, m.rate, m.plain_rate)
        )
        memory = (f"{size / 1e9:.1f}" for size in (m.peak_memory, m.plain_peak_memory))
        table.add(
            *(m.network, m.dtype, matrix, ours, f"{m.share:.2f}", plain, f"{m.speed_up:.2f}"),
            f"{m.official_speed_up:.2f}",
            *(*memory, f"{m.warm_up:.0f}", f"{m.difference:.1e}"),
        )
    first = measurements[0]
    at_once = f"{first.classes} classes at once (plain: at most {OFFICIAL})"
    terminal.say(f"{first.device}, {at_once}; TFLOP/s, GB, s", "bold")
    terminal.table(table)
