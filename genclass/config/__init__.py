"""config.yaml as typed objects: everything a user may set, checked before anything runs.

Snakemake parses this package at every start, so it imports neither torch nor pandas. A job needs a
section or two of it, and the whole takes its time: each name is imported when it is asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genclass.config.config import Config, Evaluations, Machine, Miniature, Shards, Training
    from genclass.config.extent import Extent
    from genclass.config.loading import load_config, parse_config, read_config, schema
    from genclass.config.model import Model, ModelMachine, ScoredModel, model_type, parse_model
    from genclass.config.report import (
        AccuracyTable,
        AggregationTable,
        Gallery,
        Report,
        Table,
        TableRow,
    )
    from genclass.config.sources import Archive, Checkpoint, Content, Dataset, Download, Selection
    from genclass.config.strategy import (
        ExhaustiveStrategy,
        FixedStrategy,
        RacingStrategy,
        Strategy,
    )

__all__ = [
    "AccuracyTable",
    "AggregationTable",
    "Archive",
    "Checkpoint",
    "Config",
    "Content",
    "Dataset",
    "Download",
    "Evaluations",
    "ExhaustiveStrategy",
    "Extent",
    "FixedStrategy",
    "Gallery",
    "Machine",
    "Miniature",
    "Model",
    "ModelMachine",
    "RacingStrategy",
    "Report",
    "ScoredModel",
    "Selection",
    "Shards",
    "Strategy",
    "Table",
    "TableRow",
    "Training",
    "load_config",
    "model_type",
    "parse_config",
    "parse_model",
    "read_config",
    "schema",
]

_MODULES = {
    "config": ("Config", "Evaluations", "Machine", "Miniature", "Shards", "Training"),
    "extent": ("Extent",),
    "loading": ("load_config", "parse_config", "read_config", "schema"),
    "model": ("Model", "ModelMachine", "ScoredModel", "model_type", "parse_model"),
    "report": ("AccuracyTable", "AggregationTable", "Gallery", "Report", "Table", "TableRow"),
    "sources": ("Archive", "Checkpoint", "Content", "Dataset", "Download", "Selection"),
    "strategy": ("ExhaustiveStrategy", "FixedStrategy", "RacingStrategy", "Strategy"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
