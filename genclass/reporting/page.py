"""The report: one page that opens from disk, and every table and figure as files beside it."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jinja2
import pyarrow as pa
import pyarrow.parquet as pq
import vl_convert
from markupsafe import Markup, escape

from genclass.analysis.intervals import Estimate
from genclass.errors import GenclassError
from genclass.files import atomic_file, write_atomically
from genclass.jobs.rehearsal import WARNING
from genclass.paths import Run
from genclass.reporting.claims import (
    Claim,
    build_claims,
    claims_tables,
    efficiency_tables,
    outcome_of,
)
from genclass.reporting.figures import SHAPES, VEGA_LITE, Figure, build_figures
from genclass.reporting.gallery import Pair, build_gallery
from genclass.reporting.paper import REPORTS, Paper
from genclass.reporting.provenance import Provenance, gather
from genclass.reporting.races import race_tables
from genclass.reporting.results import Results
from genclass.reporting.tables import (
    NOT_OF_A_RACE,
    Cell,
    Column,
    Row,
    Table,
    build_tables,
    origin,
    show,
    show_p,
)

_WORST_CLASSES = 5
_OWN_TABLES = ("claims", "calibration", "race-agreement", "race-savings", "mistakes", "gallery")
_EXPORT = "window.vegaEmbed = vegaEmbed;"  # the one name that the page's script needs of Vega


@dataclass(frozen=True)
class ReportSummary:
    """What `render` wrote."""

    page: Path
    main: str  # the main table as plain text
    missing: int  # evaluations that the config asks for and that are not there
    notes: tuple[str, ...] = ()  # that stand first on the page


def render(results_folder: str | Path | Run, notes: Sequence[str] = ()) -> ReportSummary:
    """Render the report of a results folder from what exists in it; the rest is said to be missing.

    notes: sentences that stand first on the page.

    Writes report/report.html, report/tables/NAME.{json,csv,tex}, report/figures/NAME.{svg,png},
    report/predictions.parquet and report/provenance.json. The same results give the same bytes,
    but for the provenance. Each file of a rehearsal says that it is one.

    Raises:
        GenclassError: the folder holds no resolved config, a table has a name that the report
            itself uses, or reports/paper.yaml is wrong.
    """
    results, paper = Results(results_folder), Paper.load()
    asked = build_tables(results, paper)
    claims = build_claims(results, paper)
    found = (
        *claims_tables(claims),
        *efficiency_tables(claims, results),
        _calibration_table(results),
        *race_tables(results),
    )
    own = {table.name: table for table in found if table}
    for table in asked:
        if table.name in (*_OWN_TABLES, *own):
            raise GenclassError(
                f"report.tables.{table.name}: the report makes a table of that name itself: "
                f"choose another"
            )
    figures = build_figures(results, claims)
    mistakes = _mistakes(results)
    gallery = build_gallery(results)
    provenance = gather(results)

    warning = WARNING if results.config.rehearsal is not None else ""
    folder = results.files.report
    tables = [*asked, *own.values()]
    drawings = {name: figure.svg(warning) for name, figure in figures.items()}
    files: dict[Path, str | bytes] = {}
    for table in tables:
        stem = results.files.table(table.name)
        files[stem] = _json(table.as_json(), warning)
        files[stem.with_name(f"{table.name}.csv")] = table.as_csv(warning)
        files[stem.with_name(f"{table.name}.tex")] = table.as_latex(warning)
    files[folder / "tables" / "mistakes.json"] = _json(mistakes, warning)
    if gallery:
        entries = [pair.as_json() for pair in gallery]
        files[folder / "tables" / "gallery.json"] = _json(entries, warning)
    for name, figure in figures.items():
        files[folder / "figures" / f"{name}.svg"] = drawings[name]
        files[folder / "figures" / f"{name}.png"] = figure.png(drawings[name])
    files[folder / "provenance.json"] = _json(asdict(provenance), warning)
    for path, content in files.items():
        write_atomically(path, content)
    _remove_others(folder / "tables", files)
    _remove_others(folder / "figures", files)
    _write_predictions(results, folder / "predictions.parquet")
    page = results.files.page
    contents = _Contents(
        results, claims, asked, own, figures, drawings, mistakes, gallery, provenance, notes
    )
    write_atomically(page, _page(contents))
    missing = sum(1 for evaluation in results.evaluations if evaluation.missing)
    main = asked[0].as_text(warning) if asked else warning
    return ReportSummary(page, main, missing, tuple(notes))


@dataclass(frozen=True)
class _Contents:
    """What the template shows, under these names."""

    results: Results
    claims: list[Claim]
    tables: list[Table]  # that the config asks for
    own: dict[str, Table]  # that every report has
    figures: dict[str, Figure]
    drawings: dict[str, str]  # of the figures, as SVG
    mistakes: list[dict[str, Any]]
    gallery: list[Pair]
    provenance: Provenance
    notes: Sequence[str]  # that stand first


def _page(contents: _Contents) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(REPORTS),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "show": show,
        "show_p": show_p,
        "outcome": outcome_of,
        "duration": _duration,
        "size": _size,
        "shape": SHAPES.__getitem__,
        "seconds_of": lambda hours: 3600 * hours,
        "tied": _tied,
        "explained": _explained,
        "capitalize_first": lambda text: text[:1].upper() + text[1:],
        "groupby_kept": _groups,
        "inline_svg": lambda name: _data_uri(contents.drawings[name]),
    }
    return environment.get_template("report.html.j2").render(
        title=contents.results.config.report.title,
        **vars(contents),
        style=Markup((REPORTS / "style.css").read_text(encoding="utf-8")),
        script=Markup((REPORTS / "script.js").read_text(encoding="utf-8")),
        vega=Markup(_vega()) if contents.figures else "",
    )


def _vega() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script that may stand inside HTML."""
    bundle = str(vl_convert.javascript_bundle(_EXPORT, vl_version=VEGA_LITE))
    return bundle.replace("</script", r"<\/script").replace("<!--", r"<\!--")


def _data_uri(svg: str) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def _tied(text: str) -> str:
    """Text in which a number stays on one line with its unit, and a p with its value."""
    text = re.sub(r"(?<=\d) (?=%)", "\u00a0", text).replace("sign-flip", "sign\u2011flip")
    return re.sub(r"(?<=\bp) (?=[<\d])|(?<=<) (?=\d)", "\u00a0", text)


_TERMS = {
    "95\u00a0% interval": "Made so, 95 of 100 intervals hold the true value, over the choice of "
    "images",
    "sign\u2011flip test": "How often the difference would be as large if each image’s difference "
    "were as likely with the other sign",
    "exact McNemar test": "How often chance alone would share the images that only one has right "
    "so unevenly",
    "Tango’s score test": "How far the difference is from the margin, in standard errors",
    "evidence": "How many times likelier the answers so far are under the claim; reaches 40 by "
    "chance in one of 40 runs at most",
    "lower end of the 95\u00a0% interval": "In 97.5 of 100 runs the true factor is above it, over "
    "the choice of images; an upper end cannot be told",
}


_ANY_TERM = re.compile("|".join(re.escape(term) for term in sorted(_TERMS, key=len)[::-1]))


def _explained(text: str) -> Markup:
    """Text whose terms of the trade say what they mean, each where it stands first."""
    seen = set()

    def explain(found: re.Match[str]) -> str:
        term = found[0]
        if term in seen:
            return term
        seen.add(term)
        return str(Markup('<abbr title="{}">{}</abbr>').format(_TERMS[term], term))

    return Markup(_ANY_TERM.sub(explain, str(escape(_tied(text)))))


def _json(value: dict[str, Any] | list[dict[str, Any]], warning: str) -> str:
    """A warning stands first in the object, or in each one of a list."""
    if warning:
        first = {"warning": warning}
        value = first | value if isinstance(value, dict) else [first | entry for entry in value]
    return json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def _remove_others(folder: Path, files: Iterable[Path]) -> None:
    """Tables and figures of an earlier config would be taken for this one's."""
    keep = set(files)
    for path in folder.glob("*") if folder.is_dir() else ():
        if path.is_file() and path not in keep:
            path.unlink()


def _calibration_table(results: Results) -> Table | None:
    """Expected calibration errors, a row a model; of races, on what is scored exhaustively."""
    columns = [Column(d, results.dataset_title(d)) for d in results.datasets]
    rows = []
    for name in results.models:
        if not results.is_scored_whole(name):
            continue
        cells = []
        for column in columns:
            evaluation = results.evaluation(name, column.key)
            if not evaluation.metrics:
                cells.append(Cell(missing=evaluation.missing, unit="error"))
                continue
            calibration = evaluation.metrics["calibration"]
            if calibration is None:
                cells.append(Cell(missing=NOT_OF_A_RACE, unit="error"))
                continue
            ece = calibration["ece"]
            behind = origin(results, evaluation, evaluation.trials, "mean_log_p")
            cells.append(
                Cell(
                    Estimate(ece, ece, ece),
                    unit="error",
                    counted=True,
                    images=evaluation.exhaustive,
                    budget=evaluation.trials,
                    origins=(behind,),
                )
            )
        rows.append(Row(results.model_title(name), tuple(cells), results.model(name).group))
    if not rows:
        return None
    return Table(
        "calibration",
        "Expected calibration error",
        "Mean gap between posterior and accuracy over fifteen bins, at the whole budget.",
        "Model",
        tuple(columns),
        tuple(rows),
        "error",
    )


def _mistakes(results: Results) -> list[dict[str, Any]]:
    """Of every evaluation the classes it knows worst and the pairs it confuses most."""
    entries = []
    for evaluation in results.evaluations:
        if not evaluation.metrics:
            continue
        dataset = evaluation.dataset
        classes = [
            {**entry, "accuracy": entry["correct"] / entry["images"]}
            for entry in evaluation.metrics["per_class"]
        ]
        classes.sort(key=lambda entry: (entry["accuracy"], entry["class_id"]))
        entries.append(
            {
                "key": dataset,
                "dataset": results.dataset_title(dataset),
                "model": results.model_title(evaluation.model),
                "weakest": [
                    {**entry, "name": results.class_name(dataset, entry["class_id"])}
                    for entry in classes[:_WORST_CLASSES]
                ],
                "confused": [
                    {
                        **pair,
                        "label_name": results.class_name(dataset, pair["label"]),
                        "predicted_name": results.class_name(dataset, pair["predicted"]),
                    }
                    for pair in evaluation.metrics["confusions"][:_WORST_CLASSES]
                ],
            }
        )
    order: list[str] = [results.dataset_title(name) for name in results.datasets]
    entries.sort(key=lambda entry: order.index(str(entry["dataset"])))
    return entries


def _write_predictions(results: Results, path: Path) -> None:
    """All predictions as one file, written evaluation by evaluation; none: no file."""
    present = [
        (evaluation, source)
        for evaluation in results.evaluations
        for source in [results.files.predictions(evaluation.model, evaluation.dataset)]
        if evaluation.metrics and source.is_file()
    ]
    if not present:
        path.unlink(missing_ok=True)
        return
    with atomic_file(path) as file:
        writer: pq.ParquetWriter | None = None
        for evaluation, source in present:
            table = pq.read_table(source).replace_schema_metadata(None)
            for column in _PREDICTION_COLUMNS:
                if column not in table.column_names:  # diffusion: the mean alone has a meaning
                    table = table.append_column(column, pa.nulls(len(table), pa.int64()))
            table = table.select(_PREDICTION_COLUMNS)
            for name in ("dataset", "model"):
                values = pa.array([getattr(evaluation, name)] * len(table)).dictionary_encode()
                table = table.add_column(0, name, values)
            writer = writer or pq.ParquetWriter(file, table.schema, compression="zstd")
            writer.write_table(table)
        if writer:
            writer.close()


_PREDICTION_COLUMNS = [
    *("image_id", "label", "budget", "predicted", "runner_up", "posterior", "share", "correct"),
    *("raced", "predicted_mean_softmax", "predicted_logsumexp"),
]


def _groups(entries: Iterable[Any], key: str) -> list[tuple[Any, list[Any]]]:
    """Entries by an attribute or key, the groups in the order of their first entry."""
    groups: dict[Any, list[Any]] = {}
    for entry in entries:
        group = entry[key] if isinstance(entry, dict) else getattr(entry, key)
        groups.setdefault(group, []).append(entry)
    return list(groups.items())


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:,.1f} h"


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:,.0f}\u00a0{unit}" if unit == "bytes" else f"{count:,.1f}\u00a0{unit}"
        count /= 1000
    return f"{count:,.1f}\u00a0GB"
