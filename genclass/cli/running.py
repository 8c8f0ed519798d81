"""How far a run is, and what it found."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genclass.cli.options import MINIATURE, ConfigOption, JsonOption, load
from genclass.cli.terminal import TERMINAL, Heading, Listing, Styled, Terminal, duration
from genclass.errors import GenclassError
from genclass.files import reading

if TYPE_CHECKING:
    from genclass.planning.status import CellStatus
    from genclass.reporting.claims import Claim

MARKS = {"holds": "green", "reversed": "red", "undecided": ""}


def status(config: ConfigOption = MINIATURE) -> None:
    """Show how far a reproduction is: shards, failures and their logs, speed, remaining time, and
    which claims are decided by now."""
    from genclass.planning.status import status as read_status

    loaded = load(config)
    show_status(read_status(loaded), loaded.run.page, TERMINAL)
    if any(loaded.run.scores(*cell).is_dir() for cell in loaded.cells()):
        from genclass.reporting.so_far import claims_so_far  # takes its time

        show_claims(claims_so_far(loaded), TERMINAL)


def report(config: ConfigOption = MINIATURE) -> None:
    """Render the page from what is there, also while jobs run, in RESULTS/so-far/report."""
    from genclass.reporting.so_far import render_so_far

    found = render_so_far(load(config))
    sys.stdout.write(f"{found.main}\n")
    TERMINAL.say()
    for note in found.notes:
        TERMINAL.say(note)
    TERMINAL.say(f"report: {found.page}")


def why(
    model: Annotated[str, typer.Argument(metavar="MODEL")],
    dataset: Annotated[str, typer.Argument(metavar="DATASET")],
    shard: Annotated[str | None, typer.Argument(metavar="[SHARD]")] = None,
    config: ConfigOption = MINIATURE,
    as_json: JsonOption = False,
) -> None:
    """Say why a cell, or one shard of it, is computed again: which key of its spec changed."""
    from genclass.specs.why import shown
    from genclass.specs.why import why as explain

    verdicts = explain(load(config), model, dataset, shard)
    if as_json:
        sys.stdout.write(json.dumps([asdict(verdict) for verdict in verdicts], indent=1) + "\n")
        return
    for verdict in verdicts:
        TERMINAL.say(f"{verdict.what}: {verdict.reason or 'as the config asks'}")
        for change in verdict.changes:
            TERMINAL.say(f"  {change.key}: {shown(change.old)} -> {shown(change.new)}")
            TERMINAL.say(f"    {change.meaning}")


def show(config: ConfigOption = MINIATURE) -> None:
    """Print the main table of the last report, and where the report is."""
    from genclass.specs.cells import of_another_config

    loaded = load(config)
    summary, given = loaded.run.summary, list(map(str, config))
    if not summary.is_file():
        raise GenclassError(
            f'{summary}: there is no report yet: make reproduce CONFIG="{" ".join(given)}"'
        )
    if others := of_another_config(loaded):
        command = [".venv/bin/snakemake", "--configfile", *given, "--forcerun", *map(str, others)]
        raise GenclassError(
            f"{others[0]} is not of this config, and Snakemake has no record of how it was made (a "
            f"copied folder?): make such files anew: {shlex.join(command)}"
        )
    with reading(summary, "report's summary", "rerun"):
        sys.stdout.write(summary.read_text(encoding="utf-8", errors="replace"))


def failures(config: ConfigOption = MINIATURE) -> None:
    """Print what failed in the last run: each job, its error in one line, and its log."""
    path = load(config).run.failures
    if path.is_file():
        with reading(path, "list of what failed", "rerun"):
            text = path.read_text(encoding="utf-8", errors="replace")
        for line in text.splitlines():
            TERMINAL.say(line)


def show_status(cells: list[CellStatus], page: Path, terminal: Terminal) -> None:
    """Print each cell's state, the errors of failed jobs, and where the page is once it stands."""
    numbers = ("shards", "running", "waiting", "failed", "images", "images/s", "left")
    table = Listing("model", "dataset", *(Heading(name, number=True) for name in numbers), names=2)
    for cell in cells:
        table.add(
            cell.model,
            cell.dataset,
            f"{cell.done}/{cell.shards}",
            str(cell.running),
            str(cell.waiting),
            Styled(str(len(cell.failed)), "red" if cell.failed else ""),
            f"{cell.images_done / cell.images:.0%}",
            f"{cell.rate:.3g}" if cell.running else "-",
            _left(cell),
        )
    terminal.table(table)
    for cell in cells:
        for log, message in cell.failed:
            terminal.say(f"{log}: {message}", "red")
    done, shards = sum(cell.done for cell in cells), sum(cell.shards for cell in cells)
    report = f" The report: {page}" if done == shards and page.is_file() else ""
    terminal.say(f"{done} of {shards} shards are done.{report}")


def show_claims(claims: Sequence[Claim], terminal: Terminal) -> None:
    """Print a line a claim; those that nothing tests are left out."""
    for claim in claims:
        if claim.kind != "untested":
            terminal.say(f"{claim.statement.statement}: {claim.verdict}", MARKS[claim.kind])


def _left(cell: CellStatus) -> str:
    if cell.left is None:
        return "?"
    if not cell.left.seconds:
        return "-"
    return duration(cell.left.seconds) + (" of one device" if cell.left.of_one_device else "")
