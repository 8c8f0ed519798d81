"""What races would have answered and cost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genclass.cli.terminal import TERMINAL, Heading, Listing
from genclass.errors import GenclassError
from genclass.files import check_writable, writing

if TYPE_CHECKING:
    import pandas as pd


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
    degrees_of_freedom: Annotated[
        float | None, typer.Option(help="Of the noise, with --scale.")
    ] = None,
    chart: Annotated[Path, typer.Option(help="To draw: .html, .svg, .png or .json.")] = Path(
        "race-replay.html"
    ),
) -> None:
    """Replay races on exhaustive scores, without the network: what they would answer and cost."""
    from genclass.racing.noise import Noise
    from genclass.racing.replay import DELTAS, replay_files
    from genclass.racing.schedule import Fixed

    if (scale is None) != (degrees_of_freedom is None):
        raise GenclassError(
            "--scale and --degrees-of-freedom belong together: give both or neither"
        )
    told = None if scale is None or degrees_of_freedom is None else Noise(scale, degrees_of_freedom)
    fixed = Fixed.parse(rounds) if rounds else None
    check_writable(chart)
    comparison, noises = replay_files(scores, told, delta or DELTAS, fixed)
    for name, noise in noises.items():
        numbers = ("passes an image", "cost", "agreement", "accuracy")
        table = Listing("schedule", *(Heading(number, number=True) for number in numbers))
        for row in comparison[comparison["scores"] == name].to_dict("records"):
            table.add(
                str(row["schedule"]),
                f"{row['passes']:.1f}",
                f"1/{1 / row['cost']:.1f}",
                f"{row['agreement']:.2%}",
                f"{row['accuracy']:.2%}",
            )
        TERMINAL.say(
            f"{name}: noise {noise.scale:.4g}, degrees of freedom {noise.degrees_of_freedom:.3g}",
            "bold",
        )
        TERMINAL.table(table)
        TERMINAL.say()
    draw_replay(comparison, chart)
    TERMINAL.say(f"drawn in {chart}")


def draw_replay(comparison: pd.DataFrame, path: Path) -> None:
    """Accuracy and agreement against cost, as a Vega-Altair chart (.html, .json, .png or .svg).

    comparison: of `compare`; with a column `scores`, each of its values has charts of its own.
    """
    import altair as alt

    measures = ["agreement", "accuracy"]
    long = comparison.melt(
        id_vars=[column for column in comparison.columns if column not in measures],
        value_vars=measures,
        var_name="measure",
        value_name="value",
    )
    long["kind"] = long["schedule"].str.split(",").str[0]
    base = alt.Chart(long).encode(
        x=alt.X("passes:Q", title="forward passes per image").scale(type="log", nice=False),
        y=alt.Y("value:Q", title=None).scale(zero=False).axis(format=".1%"),
        color=alt.Color("kind:N", title=None),
        tooltip=["schedule", "passes", "cost", "measure", "value"],
    )
    layers = base.mark_line(opacity=0.4) + base.mark_point(filled=True, size=70)
    facets = {"row": alt.Row("scores:N", title=None)} if "scores" in long else {}
    chart = layers.properties(width=320, height=220).facet(
        column=alt.Column("measure:N", title=None), **facets
    )
    try:
        # Inline: a page that opens without a network. Other formats do not know the word.
        inline = {"inline": True} if path.suffix == ".html" else {}
        with writing(path):
            chart.resolve_scale(y="independent").save(str(path), **inline)
    except ValueError:
        raise GenclassError(f"{path}: write the chart as .html, .json, .png or .svg") from None
