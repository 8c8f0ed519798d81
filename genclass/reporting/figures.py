"""Figures as Vega-Lite specs: drawn interactively on the page, and once as SVG and PNG.

Every chart is a row of panels and has the parameters `hidden_series` and `hidden_datasets` (lists
of titles), which the page sets when a reader hides a curve or a dataset. A model has the same
colour and shape in every figure, readable on light and on dark ground.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import altair as alt
import pandas as pd
import vl_convert

from genclass.config import AggregationTable
from genclass.reporting.claims import Claim, outcome_of
from genclass.reporting.factors import COST_TITLES, HOW_SECONDS_ARE_MEANT
from genclass.reporting.results import Evaluation, Results
from genclass.reporting.tables import AGGREGATION_TITLES, trial_noun
from genclass.section import Aggregation

VEGA_LITE = "v" + ".".join(alt.SCHEMA_VERSION.lstrip("v").split(".")[:2])  # v6.4.1 -> v6.4

# Mid-tones: at least 3:1 against white and against the page's dark ground.
PALETTE = (
    *("#3478d4", "#d26a12", "#2a9461", "#9a5bd0", "#d3455b", "#168f98", "#9a7816", "#76808c"),
    *("#c04a9e", "#5a7d2a", "#8a6242", "#5b66d6"),
)
SHAPES = {  # Vega's name of a point: how the page's legend draws it
    "circle": "●",
    "square": "■",
    "triangle-up": "▲",
    "diamond": "◆",
    "triangle-down": "▼",
    "cross": "✚",
}

Styles = Mapping[str, tuple[str, str]]  # a curve's title -> its colour and its shape
OUTCOMES: Styles = {
    "holds": ("#2a9461", "circle"),
    "undecided": ("#76808c", "square"),
    "reversed": ("#d3455b", "triangle-up"),
}

_ROWS = alt.NamedData("rows")  # what `_panels` puts into the spec
_FEW_IMAGES = 10  # too few for a point of the reliability curve
_WIDTH, _HEIGHT = 200, 150  # pixels of a panel; the page lays out as many columns as fit
_ROW_GAP, _COLUMN_GAP, _NARROW_GAP = 74, 56, 26  # for titles and axes between panels
_STATIC_COLUMNS = 4

_CONFIG: dict[str, Any] = {
    "font": "sans-serif",
    "view": {"stroke": None},
    "axis": {"gridOpacity": 0.5, "domain": False, "ticks": False, "labelPadding": 6},
    "axisY": {"titleFontWeight": "normal", "labelFlush": True},
    "axisX": {"titleFontWeight": "normal", "labelFlush": False, "labelOverlap": "greedy"},
    "header": {"labelFontSize": 12, "labelFontWeight": 600, "title": None},
    "legend": {
        "orient": "top",
        "title": None,
        "labelFontSize": 12,
        "symbolSize": 90,
        "symbolOpacity": 1,
    },
}


@dataclass(frozen=True)
class Figure:
    """One chart and what is said about it; `spec` is Vega-Lite with its data inside."""

    name: str
    title: str
    caption: str
    alt: str  # the chart in a sentence, from its numbers
    spec: dict[str, Any]
    legend: Styles  # of what can be hidden

    def svg(self, warning: str = "") -> str:
        """The chart on white, under a warning where there is one."""
        static = {**self.spec, "background": "white", "config": {**_CONFIG, "aria": False}}
        if warning:
            static["title"] = {"text": warning, "anchor": "start", "color": "#d3455b"}
        drawn = str(vl_convert.vegalite_to_svg(static, vl_version=VEGA_LITE))
        return re.sub(r"\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}", drawn)

    def png(self, svg: str) -> bytes:
        """The same drawing (what `svg` returned) in pixels."""
        return bytes(vl_convert.svg_to_png(svg, scale=2))


def model_styles(results: Results) -> Styles:
    """Colour and shape of every measured model's curve, by the model's title."""
    return _styles([results.model_title(name) for name in results.models])


def _styles(titles: Sequence[str]) -> Styles:
    shapes = list(SHAPES)
    return {
        title: (PALETTE[place % len(PALETTE)], shapes[place % len(shapes)])
        for place, title in enumerate(titles)
    }


def build_figures(results: Results, claims: Sequence[Claim]) -> dict[str, Figure]:
    """Every figure that there are numbers for, by name."""
    curves = _curves(results)
    figures: list[Figure | None] = [_claims_figure(claims)]
    if not curves.empty:
        graded = curves["severity"] > 0
        plain = curves[~graded] if not graded.all() else curves
        figures.append(_trials_figure(results, plain))
        figures += [_cost_figure(results, plain, unit) for unit in COST_TITLES]
        figures.append(_severity_figure(results, curves[graded]))
        figures += [
            _aggregation_figure(results, name, table)
            for name, table in results.config.report.tables.items()
            if isinstance(table, AggregationTable)
        ]
        figures.append(_reliability_figure(results))
    return {figure.name: figure for figure in figures if figure}


def _curves(results: Results) -> pd.DataFrame:
    """One row for each model, dataset and kept budget; accuracies in percent."""
    rows = [
        {
            **_point(results, evaluation, budget, "mean_log_p"),
            "series": results.model_title(evaluation.model),
            **{
                unit: None if cost is None else budget * cost
                for unit in COST_TITLES
                for cost in [results.cost(evaluation, unit)]
            },
        }
        for evaluation in results.evaluations
        if evaluation.metrics
        for budget in evaluation.budgets
    ]
    return pd.DataFrame(rows)


def _point(
    results: Results, evaluation: Evaluation, budget: int, aggregation: str
) -> dict[str, Any]:
    # Of a curve, all points are of the same images.
    estimate = results.accuracy(evaluation, budget, aggregation, exhaustive=True)
    assert estimate
    return {
        "dataset": results.dataset_title(evaluation.dataset),
        "severity": results.config.datasets[evaluation.dataset].severity or 0,
        "trials": budget,
        "trials_text": trial_noun(results.model(evaluation.model), budget),
        "accuracy": 100 * estimate.value,
        "low": 100 * estimate.low,
        "high": 100 * estimate.high,
        "interval": f"{100 * estimate.low:.1f}–{100 * estimate.high:.1f}",
        "lone": len(evaluation.budgets) == 1,  # a point of its own
    }


def _curve_panels(
    data: pd.DataFrame,
    x: alt.X,
    styles: Styles,
    panels: Sequence[str],
    tooltips: Sequence[alt.Tooltip] = (),
    panel: str = "dataset",
) -> dict[str, Any]:
    """Accuracy against something: a curve a series, a panel for each value of the field `panel`."""
    base = alt.Chart(_ROWS).encode(x=x, color=_colour(styles))
    y = alt.Y("accuracy:Q", title="accuracy, %", scale=alt.Scale(zero=False), axis=_few_ticks())
    band = base.mark_area(opacity=0.13).encode(y=alt.Y("low:Q", title="accuracy, %"), y2="high:Q")
    line = base.mark_line(strokeWidth=1.8).encode(y=y)
    spread = (
        base.transform_filter("datum.lone")
        .mark_rule(strokeWidth=1.5)
        .encode(y=alt.Y("low:Q", title="accuracy, %"), y2="high:Q")
    )
    points = base.mark_point(filled=True, size=28, opacity=1).encode(
        y=y,
        shape=_shape(styles),
        tooltip=[
            alt.Tooltip("series:N", title="model"),
            alt.Tooltip("dataset:N"),
            alt.Tooltip("trials_text:N", title="budget"),
            *tooltips,
            alt.Tooltip("accuracy:Q", format=".1f", title="accuracy, %"),
            alt.Tooltip("interval:N", title="95 % interval"),
        ],
    )
    layers = [band, line, spread, points] if data["lone"].any() else [band, line, points]
    chart = alt.layer(*layers).properties(width=_WIDTH, height=_HEIGHT)
    return _panels(chart, data, panel, panels)


def _panels(
    layers: Any,
    data: pd.DataFrame,
    field: str,
    order: Sequence[str],
    columns: int = _STATIC_COLUMNS,
) -> dict[str, Any]:
    """One panel for each value of `field`: a dataset (own y scale) or a comparison (own x)."""
    column_gap = _NARROW_GAP if field == "comparison" else _COLUMN_GAP
    chart = (
        layers.facet(facet=alt.Facet(f"{field}:N", sort=list(order), title=None), columns=columns)
        .add_params(
            alt.param(name="hidden_series", value=[]), alt.param(name="hidden_datasets", value=[])
        )
        .transform_filter("indexof(hidden_series, datum.series) < 0")
        .transform_filter("indexof(hidden_datasets, datum.dataset) < 0")
        .resolve_scale(
            x="independent" if field == "comparison" else "shared",
            y="shared" if field == "comparison" else "independent",
        )
        .resolve_axis(x="independent")
        .properties(bounds="flush", spacing={"row": _ROW_GAP, "column": column_gap})
    )
    spec: dict[str, Any] = chart.to_dict(validate=False)
    rows = json.loads(data.to_json(orient="records"))  # NaN becomes null
    for row in rows:
        row |= {k: float(f"{v:.5g}") for k, v in row.items() if isinstance(v, float)}
    spec["datasets"] = {"rows": rows}
    spec["config"] = _CONFIG
    return spec


def _balanced(panels: int, most: int) -> int:
    """How many columns, at most so many, fill their rows best."""
    return math.ceil(panels / math.ceil(panels / most))


def _colour(styles: Styles) -> alt.Color:
    colours = [colour for colour, _ in styles.values()]
    return alt.Color("series:N", scale=alt.Scale(domain=list(styles), range=colours))


def _shape(styles: Styles) -> alt.Shape:
    shapes = [shape for _, shape in styles.values()]
    return alt.Shape("series:N", scale=alt.Scale(domain=list(styles), range=shapes))


def _log_ticks(values: pd.Series) -> list[float]:
    """1, 2, 5, 10, ... within the values' range; powers of ten alone where that is many."""
    low, high = math.log10(values.min()), math.log10(values.max())
    steps = (1, 2, 5) if high - low < 2.5 else (1,)
    decades = range(math.floor(low), math.ceil(high) + 1)
    ticks = [float(f"{step}e{power}") for power in decades for step in steps]
    return [tick for tick in ticks if values.min() <= tick <= values.max()]


def _few_ticks() -> alt.Axis:
    return alt.Axis(tickCount=4)


def _dataset_titles(results: Results, names: Sequence[str]) -> list[str]:
    return [results.dataset_title(name) for name in names]


def _trials_figure(results: Results, curves: pd.DataFrame) -> Figure | None:
    """Without the models that have no trials: what scores all classes in one pass."""
    with_trials = {
        results.model_title(name)
        for name in results.models
        if results.model(name).system.work.score
    }
    curves = curves[curves["series"].isin(with_trials)]
    if curves.empty:
        return None
    ticks = _log_ticks(curves["trials"])
    x = alt.X(
        "trials:Q",
        title="trials (orders or timesteps)",
        scale=alt.Scale(type="log", nice=False),
        axis=alt.Axis(values=ticks, format="d"),
    )
    styles = {title: s for title, s in model_styles(results).items() if title in with_trials}
    return Figure(
        "accuracy-trials",
        "Accuracy against the number of orders",
        "Every budget is the mean over disjoint groups of that many consecutive trials; the band "
        "is its 95 % Wilson interval. Timesteps of diffusion stand on the same axis. Each panel "
        "has its own vertical scale.",
        "Accuracy against number of trials, a panel a test set. " + _ends(results, curves),
        _curve_panels(
            curves.drop(columns=list(COST_TITLES)),
            x,
            styles,
            _dataset_titles(results, results.datasets),
        ),
        styles,
    )


def _ends(results: Results, curves: pd.DataFrame) -> str:
    """Where each curve starts and ends, in the mean over the datasets."""
    sentences = []
    for name in results.models:
        model = results.model(name)
        title = results.model_title(name)
        rows = curves[curves["series"] == title]
        if rows.empty:
            continue
        first, last = rows["trials"].min(), rows.groupby("dataset")["trials"].max().min()
        start, end = (rows[rows["trials"] == t]["accuracy"].mean() for t in (first, last))
        text = f"{title}: {start:.1f} % with {trial_noun(model, int(first))}"
        if last > first:
            text += f", {end:.1f} % with {trial_noun(model, int(last))}"
        sentences.append(text + ".")
    return "Means over the test sets. " + " ".join(sentences)


def _cost_figure(results: Results, curves: pd.DataFrame, unit: str) -> Figure | None:
    data = curves.dropna(subset=[unit])
    data = data[data[unit] > 0].assign(cost=lambda frame: frame[unit].astype(float))
    if data.empty:
        return None
    noun = {"forward_passes": "forward passes", "flops": "FLOPs", "seconds": "seconds"}[unit]
    x = alt.X(
        "cost:Q",
        title=f"{noun} per image",
        scale=alt.Scale(type="log", nice=False),
        axis=alt.Axis(values=_log_ticks(data["cost"]), format="~g" if unit == "seconds" else "~s"),
    )
    shown: list[str] = data["series"].tolist()
    everything = model_styles(results)
    styles = {title: style for title, style in everything.items() if title in shown}
    caption = f"Cost of classifying one image, over all its candidate classes, in {noun}; log axis."
    if unit == "seconds":
        caption += f" Measured on {results.device}: {HOW_SECONDS_ARE_MEANT}."
        left_out = [title for title in everything if title not in shown]
        if left_out:
            caption += f" Left out, measured on other devices: {', '.join(left_out)}."
    return Figure(
        f"accuracy-{unit.replace('_', '-')}",
        f"Accuracy against {noun}",
        caption,
        f"Accuracy against {noun} per image, a panel a test set. " + _cost_ranges(data, styles),
        _curve_panels(
            data.drop(columns=list(COST_TITLES)),
            x,
            styles,
            _dataset_titles(results, results.datasets),
            [alt.Tooltip("cost:Q", title=f"{noun} per image", format=",.3~g")],
        ),
        styles,
    )


def _cost_ranges(data: pd.DataFrame, titles: Iterable[str]) -> str:
    costs = {title: data[data["series"] == title]["cost"] for title in titles}
    return " ".join(f"{t}: from {c.min():,.3g} to {c.max():,.3g}." for t, c in costs.items())


def _severity_figure(results: Results, curves: pd.DataFrame) -> Figure | None:
    """Accuracy of the whole budget against a corruption's severity."""
    if curves.empty:
        return None
    corruptions = {
        results.dataset_title(name): (
            dataset.corruption or dataset.title.removesuffix(f" {dataset.severity}")
        ).replace("_", " ")
        for name, dataset in results.config.datasets.items()
    }
    whole = curves.groupby(["series", "dataset"])["trials"].transform("max")
    data = curves[curves["trials"] == whole].drop(columns=list(COST_TITLES))
    data = data.assign(corruption=data["dataset"].map(corruptions), lone=False)
    levels = sorted(set(data["severity"].tolist()))
    x = alt.X(
        "severity:Q",
        scale=alt.Scale(domain=[levels[0], levels[-1]]),
        axis=alt.Axis(values=levels, format="d"),
    )
    shown = set(data["series"])
    styles = {title: style for title, style in model_styles(results).items() if title in shown}
    text = "; ".join(
        f"{title} at {level}: {rows[rows['severity'] == level]['accuracy'].mean():.1f} %"
        for title in styles
        for rows in [data[data["series"] == title]]
        for level in sorted(set(rows["severity"]))
    )
    return Figure(
        "accuracy-severity",
        "Accuracy against severity",
        "Corrupted test sets, with the whole budget; the band is the 95 % Wilson interval.",
        f"Accuracy against severity, a panel a corruption. Means over the corruptions: {text}.",
        _curve_panels(data, x, styles, sorted(set(data["corruption"])), (), "corruption"),
        styles,
    )


def _aggregation_figure(results: Results, name: str, table: AggregationTable) -> Figure | None:
    model = results.model(table.model)
    rows = [
        {
            **_point(results, evaluation, budget, aggregation),
            "series": AGGREGATION_TITLES[aggregation],
        }
        for dataset in table.datasets
        for evaluation in [results.evaluation(table.model, dataset)]
        for aggregation in get_args(Aggregation)
        for budget in evaluation.budgets
        if evaluation.budget_entry(budget, aggregation)
    ]
    if not rows:
        return None
    data = pd.DataFrame(rows)
    last = int(data["trials"].max())
    ticks = _log_ticks(data["trials"])
    x = alt.X(
        "trials:Q",
        title=trial_noun(model, 2).split()[1],
        scale=alt.Scale(type="log", nice=False),
        axis=alt.Axis(values=ticks, format="d"),
    )
    shown = list(dict.fromkeys(data["series"]))
    styles = _styles(shown)
    ends = data[data["trials"] == last].groupby("series")["accuracy"].mean()
    return Figure(
        f"{name}-curves",
        f"{table.title}: {results.model_title(table.model)}",
        "The same scores, aggregated in three ways, for every budget.",
        f"Accuracy of {results.model_title(table.model)} for each aggregation and budget. With "
        f"{trial_noun(model, last)}, in the mean over the test sets: "
        + ", ".join(f"{title} {ends[title]:.1f} %" for title in shown)
        + ".",
        _curve_panels(data, x, styles, _dataset_titles(results, table.datasets)),
        styles,
    )


def _reliability_figure(results: Results) -> Figure | None:
    datasets = results.config.datasets
    shown = [name for name in results.datasets if not datasets[name].severity] or results.datasets
    rows = [
        {
            "series": results.model_title(evaluation.model),
            "dataset": results.dataset_title(evaluation.dataset),
            "confidence": 100 * entry["confidence"],
            "accuracy": 100 * entry["accuracy"],
            "images": entry["images"],
        }
        for evaluation in results.evaluations
        if evaluation.metrics and evaluation.exhaustive and evaluation.dataset in shown
        for entry in evaluation.metrics["calibration"]["bins"]
        if entry["images"] >= _FEW_IMAGES
    ]
    if not rows:
        return None
    data = pd.DataFrame(rows)
    everything, found = model_styles(results), set(data["series"])
    styles = {title: style for title, style in everything.items() if title in found}
    whole = alt.Scale(domain=[0, 100])
    base = alt.Chart(_ROWS).encode(
        x=alt.X(
            "confidence:Q", title="posterior, %", scale=whole, axis=alt.Axis(values=[0, 50, 100])
        ),
        y=alt.Y("accuracy:Q", title="accuracy, %", scale=whole, axis=_few_ticks()),
        color=_colour(styles),
    )
    line = base.mark_line(strokeWidth=1.5, opacity=0.7)
    points = base.mark_point(filled=True, opacity=0.9).encode(
        shape=_shape(styles),
        size=alt.Size("images:Q", legend=None, scale=alt.Scale(range=[12, 160])),
        tooltip=[
            alt.Tooltip("series:N", title="model"),
            alt.Tooltip("dataset:N"),
            alt.Tooltip("confidence:Q", format=".1f", title="mean posterior, %"),
            alt.Tooltip("accuracy:Q", format=".1f", title="accuracy, %"),
            alt.Tooltip("images:Q"),
        ],
    )
    diagonal = (
        alt.Chart(_ROWS)
        .transform_aggregate(n="count()", groupby=["dataset"])
        .transform_calculate(zero="0", hundred="100")
        .mark_rule(strokeDash=[4, 4], opacity=0.6, color="#888888")
        .encode(x="zero:Q", y="zero:Q", x2="hundred:Q", y2="hundred:Q")
    )
    layers = alt.layer(diagonal, line, points).properties(width=_WIDTH, height=_HEIGHT)
    errors = ", ".join(
        f"{results.model_title(name)} {sum(values) / len(values):.3f}"
        for name in results.models
        for values in [
            [
                e.metrics["calibration"]["ece"]
                for e in results.evaluations
                if e.model == name and e.metrics and e.exhaustive
            ]
        ]
        if values
    )
    return Figure(
        "reliability",
        "Reliability of the posterior",
        "Accuracy of the images that a model is so sure of; on the dashed line it is as sure as "
        "it is right. Points are bins of a fifteenth, larger with more images; bins of fewer than "
        f"{_FEW_IMAGES} images are left out. For diffusion and "
        "flow the posterior is the softmax of minus a mean squared error, whose scale is "
        "arbitrary.",
        f"Accuracy against posterior, a panel a test set. Expected calibration error: {errors}.",
        _panels(layers, data, "dataset", _dataset_titles(results, results.datasets)),
        styles,
    )


def _claims_figure(claims: Sequence[Claim]) -> Figure | None:
    """Every paired comparison as a row of intervals around zero."""
    rows = [
        {
            "comparison": row.title,
            "series": outcome_of(cell),
            "dataset": column.title,
            "value": 100 * cell.estimate.value,
            "low": 100 * cell.estimate.low,
            "high": 100 * cell.estimate.high,
            "interval": cell.interval_display,
            "paper": 100 * cell.paper.value if cell.paper else None,
            "mean": column.key == "mean",
        }
        for claim in claims
        if claim.unit == "points"
        for row in claim.rows
        for column, cell in zip(claim.columns, row.cells, strict=True)
        if cell.estimate
    ]
    if not rows:
        return None
    data = pd.DataFrame(rows)
    order = list(dict.fromkeys(data["dataset"]))
    order.sort(key=lambda title: title == "Mean")
    comparisons = list(dict.fromkeys(data["comparison"]))
    base = alt.Chart(_ROWS).encode(
        y=alt.Y("dataset:N", sort=order, title=None, axis=alt.Axis(grid=False, labelFlush=False)),
        color=_colour(OUTCOMES),
    )
    zero = alt.Chart(_ROWS).mark_rule(opacity=0.7, color="#888888").encode(x=alt.datum(0))
    spread = base.mark_rule(strokeWidth=2).encode(
        x=alt.X("low:Q", title="difference, points", axis=_few_ticks()), x2="high:Q"
    )
    points = base.mark_point(filled=True, size=60, opacity=1).encode(
        x="value:Q",
        shape=_shape(OUTCOMES),
        tooltip=[
            alt.Tooltip("comparison:N"),
            alt.Tooltip("dataset:N"),
            alt.Tooltip("value:Q", format="+.1f", title="difference, points"),
            alt.Tooltip("interval:N", title="95 % interval"),
        ],
    )
    layers = [zero, spread, points]
    if data["paper"].notna().any():
        layers.append(
            base.transform_filter("isValid(datum.paper)")
            .mark_point(shape="diamond", filled=False, size=80, strokeWidth=1.2)
            .encode(
                x="paper:Q",
                color=alt.value("#888888"),
                tooltip=[alt.Tooltip("paper:Q", format="+.1f", title="the paper, points")],
            )
        )
    chart = alt.layer(*layers).properties(width=0.85 * _WIDTH, height=20 * len(order))
    spec = _panels(chart, data, "comparison", comparisons, _balanced(len(comparisons), 5))
    spec["spacing"]["row"] += 14  # titles of two lines
    label = "length(split(datum.label, ' − ')) < 2 ? datum.label : "
    label += "[split(datum.label, ' − ')[0], '− ' + split(datum.label, ' − ')[1]]"
    spec["facet"]["header"] = {"labelExpr": label, "labelLimit": _WIDTH + 20}
    held = int((data["series"] == "holds").sum())
    paper = " Hollow diamonds: the paper (secondary source)." if len(layers) > 3 else ""
    return Figure(
        "claims",
        "Differences in accuracy on the same images",
        "Accuracy of the first minus accuracy of the second, with 95 % interval. Green: for the "
        "claim; grey: not decided by these images; red: against it. Of single test sets the "
        f"colours are adjusted for their number, the intervals are not.{paper}",
        f"{held} of {len(data)} differences are decided for the claim. "
        + " ".join(
            f"{row['comparison']}: {row['value']:+.1f} points in the mean."
            for row in rows
            if row["mean"]
        ),
        spec,
        {},
    )
