"""Rule specify: the spec of a model on a dataset."""

import argparse
from pathlib import Path

from genclass.config import Selection, parse_model
from genclass.data.image_list import ImageList
from genclass.scripting import manifests, run
from genclass.specs.dataset import scored_dataset
from genclass.specs.spec import specify


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="what decides over its scores, as JSON")
    parser.add_argument("--dataset", required=True, help="its name")
    parser.add_argument("--selection", required=True, help="of the dataset, as JSON")
    parser.add_argument("--classes", type=int, help="how many candidates the config says")
    parser.add_argument("--seed", required=True, type=int)
    parser.add_argument("--trials", required=True, type=int, help="of a race: its budget")
    parser.add_argument("--image-list", required=True, type=Path)
    parser.add_argument("--parts", required=True, nargs="+", help="what checkpoints are for")
    parser.add_argument("--checkpoints", required=True, nargs="+", type=Path, help="manifests")
    parser.add_argument("--output", required=True, type=Path)
    arguments = parser.parse_args()
    dataset = scored_dataset(
        arguments.dataset,
        Selection.model_validate_json(arguments.selection),
        ImageList.read(arguments.image_list),
        arguments.classes,
    )
    found = manifests(arguments.parts, arguments.checkpoints)
    spec = specify(
        parse_model(arguments.model),
        dataset,
        {part: manifest.sha256 for part, manifest in found.items()},
        arguments.seed,
        arguments.trials,
    )
    spec.write(arguments.output)
    print(f"spec {spec.sha256}")


if __name__ == "__main__":
    run(main)
