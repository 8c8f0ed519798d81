"""`genclass`: what a person types. One file a group of commands; `terminal` draws for all of them.

A command asks the library for typed results and prints them; nothing is computed here.
"""

from __future__ import annotations

import typer

from genclass.cli.classifying import classify
from genclass.cli.comparing import compare
from genclass.cli.inventory import datasets, fetch, models, print_schema
from genclass.cli.planning import bench, budget, calibrate, plan
from genclass.cli.racing import race_replay
from genclass.cli.running import failures, report, show, status, why
from genclass.scripting import run

app = typer.Typer(
    help="Generative image classifiers: inspect, classify, and follow a reproduction.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
COMMANDS = (
    *(models, datasets, fetch, classify, show, compare),
    *(plan, budget, status, report, failures, why, calibrate, bench),
)
for command in COMMANDS:
    app.command()(command)
app.command("race-replay")(race_replay)
app.command("schema")(print_schema)


def main() -> None:
    """Run the command line; see `genclass.scripting.run`."""
    run(app)
