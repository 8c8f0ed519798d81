"""config.yaml is the paper: every cell of its tables that these networks fill."""

import re
from pathlib import Path
from typing import Any

import yaml

from genclass.config import AccuracyTable, AggregationTable, Config, Extent, load_config
from genclass.config.config import config_type
from genclass.reporting.paper import Paper
from genclass.section import Section
from genclass.sources import parse_place

REPOSITORY = Path(__file__).parents[2]
CONFIG = load_config(REPOSITORY / "config.yaml")
PAPER = Paper.load(REPOSITORY / "reports/paper.yaml")


def accuracy_tables(config: Config) -> list[AccuracyTable]:
    return [t for t in config.report.tables.values() if isinstance(t, AccuracyTable)]


def test_every_accuracy_of_the_paper_stands_beside_a_measured_one_or_by_itself() -> None:
    beside = {(row.paper, c) for t in accuracy_tables(CONFIG) for row in t.rows for c in t.columns}
    alone = {(row, c) for t in accuracy_tables(CONFIG) for row in t.paper_rows for c in t.columns}
    values = {(entry.row, dataset) for entry in PAPER.accuracy for dataset in entry.values}
    assert values <= beside | alone
    of_these_networks = {v for v in values if v[0].startswith(("RandAR", "DiT-XL", "SiT-XL"))}
    assert of_these_networks <= beside


def test_every_aggregation_of_the_paper_is_measured() -> None:
    tables = [t for t in CONFIG.report.tables.values() if isinstance(t, AggregationTable)]
    for entry in PAPER.aggregation:
        (table,) = (t for t in tables if t.paper == entry.row)
        assert entry.dataset in table.datasets
        assert set(table.budgets) >= {b for values in entry.values.values() for b in values}


def test_cells_beside_the_paper_are_evaluated_at_their_budget() -> None:
    cells = CONFIG.cells()
    for table in accuracy_tables(CONFIG):
        for row in table.rows:
            for dataset in table.columns:
                if PAPER.accuracy_of(row.paper, dataset):
                    budget = row.trials or CONFIG.models[row.model].trials
                    assert cells[row.model, dataset].trials >= budget


def test_the_budgets_and_test_sets_are_the_papers() -> None:
    sizes = {name: (d.images, d.images_per_class) for name, d in CONFIG.datasets.items()}
    assert sizes["imagenet"] == sizes["imagenet-sketch"] == (2000, 2)
    assert sizes["imagenet-c-gaussian-noise-3"] == (2000, 2)
    assert sizes["imagenet-r"] == (30000, None)
    assert sizes["imagenet-a"] == (7500, None)
    cells = CONFIG.cells()
    assert cells["randar-xl", "imagenet"] == Extent(2000, 20, 500)
    assert cells["dit-xl", "imagenet"] == Extent(2000, 250, 500)
    corruptions = {(d.corruption, d.severity) for d in CONFIG.datasets.values() if d.corruption}
    assert corruptions >= {
        (c, s) for c in ("gaussian_noise", "jpeg_compression") for s in range(1, 6)
    }


def test_every_place_can_be_read_and_every_download_is_used() -> None:
    for download in [*CONFIG.checkpoints.values(), *CONFIG.datasets.values()]:
        assert all(parse_place(place) for place in download.places)
    systems = [model.system for model in CONFIG.models.values()]
    used = {name for system in systems for name in system.checkpoints.values()}
    assert used == set(CONFIG.checkpoints)
    assert {dataset for _, dataset in CONFIG.cells()} == set(CONFIG.datasets)
    assert {model for model, _ in CONFIG.cells()} == set(CONFIG.models)


def sections(annotation: Any) -> set[type[Section]]:
    """A section and all that it may hold."""
    if not (isinstance(annotation, type) and issubclass(annotation, Section)):
        return {s for part in getattr(annotation, "__args__", ()) for s in sections(part)}
    fields = annotation.model_fields.values()
    return {annotation} | {s for field in fields for s in sections(field.annotation)}


def test_every_key_is_explained_in_config_yaml() -> None:
    text = (REPOSITORY / "config.yaml").read_text()
    miniature = (REPOSITORY / "config/miniature.yaml").read_text()
    for section in sections(config_type()):
        if not section.__module__.startswith("genclass."):
            continue  # of a plugin
        own = section.__name__ in ("Miniature", "Training")
        for key in section.model_fields:
            if key != "miniature":
                shown = re.search(rf"\b{key}(:|`)", miniature if own else text)
                assert shown, f"{section.__name__}.{key} is not explained"


def test_what_is_commented_out_is_the_default() -> None:
    lines = (REPOSITORY / "config.yaml").read_text().splitlines()
    commented = [re.fullmatch(r"# (\w+): (.*?)(  # .*)?", line) for line in lines]
    shown = {m[1]: yaml.safe_load(m[2]) for m in commented if m and m[1] in Config.model_fields}
    assert set(shown) >= {"offline", "device", "shards", "target_shard_minutes", "rehearsal"}
    defaults = Config.model_construct().model_dump(mode="json")
    assert shown == {key: defaults[key] for key in shown}
