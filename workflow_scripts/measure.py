"""Rule measure: the metrics and predictions of one model on one dataset."""

import argparse
from pathlib import Path

from genclass.analysis.accuracy import MEAN_LOG_P
from genclass.analysis.measure import measure
from genclass.analysis.metrics import write_measured
from genclass.scores.merge import MergedScores, MergeRecord
from genclass.scripting import run
from genclass.specs.spec import Spec


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scores", required=True, type=Path, help="the merged scores")
    parser.add_argument("--record", required=True, type=Path, help="their record of costs")
    parser.add_argument("--spec", required=True, type=Path)
    parser.add_argument("--metrics", required=True, type=Path, help="the JSON to write")
    parser.add_argument("--predictions", required=True, type=Path, help="the Parquet to write")
    arguments = parser.parse_args()
    record, spec = MergeRecord.read(arguments.record), Spec.read(arguments.spec)
    merged = MergedScores(arguments.scores, record, spec)
    metrics, predictions = measure(merged, spec, record)
    write_measured(metrics, predictions, arguments.record, arguments.metrics, arguments.predictions)
    whole = (metrics["race_accuracy"] or metrics["accuracy"][MEAN_LOG_P])[-1]
    print(f"accuracy {whole['mean']:.4f} on {whole['images']} images, {metrics['trials']} trials")


if __name__ == "__main__":
    run(main)
