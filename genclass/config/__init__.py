"""config.yaml as typed objects: everything a user may set, checked before anything runs.

Snakemake parses this package at every start, so it imports neither torch nor pandas.
"""

from genclass.config.config import Config, Evaluation, Extent, Machine, Miniature, Shards, Training
from genclass.config.loading import load_config, parse_config, read_config, schema
from genclass.config.model import Model, ModelMachine, ScoredModel, model_type, parse_model
from genclass.config.report import AccuracyTable, AggregationTable, Gallery, Report, Row, Table
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
    "Evaluation",
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
    "Row",
    "ScoredModel",
    "Selection",
    "Shards",
    "Strategy",
    "Table",
    "Training",
    "load_config",
    "model_type",
    "parse_config",
    "parse_model",
    "read_config",
    "schema",
]
