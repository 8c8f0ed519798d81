"""config.yaml as typed objects: everything a user may set, checked before anything runs.

Snakemake parses this package at every start, so it imports neither torch nor pandas.
"""

from genclass.config.config import Config, Evaluations, Extent, Machine, Miniature, Shards, Training
from genclass.config.loading import load_config, parse_config, read_config, schema
from genclass.config.model import Model, ModelMachine, ScoredModel, model_type, parse_model
from genclass.config.report import AccuracyTable, AggregationTable, Gallery, Report, Table, TableRow
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
