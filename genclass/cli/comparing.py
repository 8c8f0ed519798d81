"""What changed between two runs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genclass.cli.options import JsonOption
from genclass.cli.terminal import TERMINAL, Heading, Listing, Terminal

if TYPE_CHECKING:
    from genclass.reporting.compare import CellChange
    from genclass.reporting.results import Results


def compare(
    first: Annotated[Path, typer.Argument(metavar="RUN_A", help="A results folder.")],
    second: Annotated[Path, typer.Argument(metavar="RUN_B", help="Another one.")],
    images: Annotated[int, typer.Option(min=0, help="Changed images shown of each cell.")] = 5,
    as_json: JsonOption = False,
) -> None:
    """Show what changed between two results folders: cell by cell, and image by image."""
    from genclass.reporting import compare as comparison
    from genclass.reporting.results import Results

    runs = Results(first), Results(second)
    cells = comparison.compare(*runs)
    if as_json:
        sys.stdout.write(comparison.as_json(*runs, cells) + "\n")
    else:
        show_comparison(*runs, cells, images, TERMINAL)


def show_comparison(
    first: Results, second: Results, cells: list[CellChange], images: int, terminal: Terminal
) -> None:
    """A line a cell that changed, and below up to `images` changed images of each."""
    from genclass.reporting.tables import show, show_p

    terminal.say(f"A  {first.root}")
    terminal.say(f"B  {second.root}")
    same = sum(cell.unchanged for cell in cells)
    if same:
        terminal.say(f"{same} of {len(cells)} cells have the same scores, bit by bit.")
    if same == len(cells):
        return
    numbers = ("A, %", "B, %", "B − A, points", "p", "won", "lost", "other")
    table = Listing(
        "model",
        "dataset",
        *(Heading(name, number=True) for name in numbers),
        Heading("scores", wraps=True),
        names=2,
    )
    for cell in cells:
        if cell.unchanged:
            continue
        sides = ("-" if s is None else show(s.accuracy, "percent") for s in cell.sides)
        changes = ["-"] * 5
        if cell.difference:
            estimate = cell.difference.difference
            low, high = (show(v, "points").lstrip("+") for v in (estimate.low, estimate.high))
            changes = [
                f"{show(estimate.value, 'points')} ({low} to {high})",
                show_p(cell.difference.p_value),
                *(str(cell.count(kind)) for kind in ("won", "lost", "other")),
            ]
        note = ": ".join(part for part in (cell.status, cell.reason) if part)
        table.add(cell.model, cell.dataset, *sides, *changes, note)
    terminal.table(table)
    terminal.note(
        "won: right in B only; lost: right in A only; other: another wrong answer. "
        "p: exact McNemar test; intervals: 95 %, on the images that both have."
    )
    for cell in cells:
        if images and cell.changes:
            terminal.say()
            terminal.say(f"{cell.model} on {cell.dataset}", "bold")
            for line in _lines(first, second, cell, images):
                terminal.say(line)


def _lines(first: Results, second: Results, cell: CellChange, images: int) -> Iterator[str]:
    for change in cell.changes[:images]:
        names = second if cell.dataset in second.config.datasets else first
        label, before, after = (
            names.class_name(cell.dataset, class_id)
            for class_id in (change.label, change.first, change.second)
        )
        yield (
            f"  {change.kind:5}  {change.image_id}: {before}{_sure(change.first_posterior)} → "
            f"{after}{_sure(change.second_posterior)}; it is {label}"
        )
    if len(cell.changes) > images:
        yield f"  and {len(cell.changes) - images} more: --images {len(cell.changes)} or --json"


def _sure(posterior: float | None) -> str:
    return "" if posterior is None else f" ({posterior:.2f})"
