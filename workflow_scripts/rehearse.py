"""Rules fetch, prepare and evaluate of a rehearsal: the same files, made up."""

import argparse
from pathlib import Path

from genclass.config import Checkpoint, Dataset, Selection
from genclass.data.image_list import ImageList
from genclass.jobs.rehearsal import make_image_list, make_manifest, make_scores
from genclass.scores.shards import Shard
from genclass.scripting import run
from genclass.specs.spec import Spec


def fetch(arguments: argparse.Namespace) -> None:
    sections: dict[str, type[Checkpoint | Dataset]]
    sections = {"checkpoints": Checkpoint, "datasets": Dataset}
    section = sections[arguments.kind].model_validate_json(arguments.section)
    make_manifest(arguments.kind, arguments.name, section).write(arguments.output)


def prepare(arguments: argparse.Namespace) -> None:
    selection = Selection.model_validate_json(arguments.selection)
    images = make_image_list(arguments.name, selection, arguments.classes, arguments.seed)
    images.write(arguments.output)


def evaluate(arguments: argparse.Namespace) -> None:
    shard = Shard.from_name(arguments.shard)
    make_scores(
        Spec.read(arguments.spec).of(shard),
        shard,
        ImageList.read(arguments.image_list),
        arguments.class_batch,
        arguments.output,
        arguments.accuracy,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    rules = parser.add_subparsers(required=True)
    rule = rules.add_parser("fetch")
    rule.set_defaults(rule=fetch)
    rule.add_argument("--kind", required=True, choices=["checkpoints", "datasets"])
    rule.add_argument("--name", required=True)
    rule.add_argument("--section", required=True, help="its section of the config, as JSON")
    rule.add_argument("--output", required=True, type=Path)
    rule = rules.add_parser("prepare")
    rule.set_defaults(rule=prepare)
    rule.add_argument("--name", required=True)
    rule.add_argument("--selection", required=True, help="which of its images, as JSON")
    rule.add_argument("--classes", required=True, type=int, help="how many candidates")
    rule.add_argument("--seed", required=True, type=int, help="of the order of the images")
    rule.add_argument("--output", required=True, type=Path)
    rule = rules.add_parser("evaluate")
    rule.set_defaults(rule=evaluate)
    rule.add_argument("--spec", required=True, type=Path)
    rule.add_argument("--shard", required=True, help="e.g. images-00000-00049.trials-000-019")
    rule.add_argument("--image-list", required=True, type=Path)
    rule.add_argument("--class-batch", required=True, type=int)
    rule.add_argument("--accuracy", required=True, type=float, help="with all trials, about")
    rule.add_argument("--output", required=True, type=Path)
    arguments = parser.parse_args()
    arguments.rule(arguments)


if __name__ == "__main__":
    run(main)
