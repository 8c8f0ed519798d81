"""Rule specify: the spec of a model on a dataset."""

import argparse
from pathlib import Path

from genclass.config import Dataset, Model
from genclass.data.class_lists import ClassList
from genclass.data.image_list import ImageList
from genclass.data.images import border_of
from genclass.data.prepare import candidates
from genclass.scripting import run
from genclass.sources import Manifest
from genclass.specs.spec import specify


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="its section of the config, as JSON")
    parser.add_argument("--dataset-name", required=True)
    parser.add_argument("--dataset", required=True, help="its section of the config, as JSON")
    parser.add_argument("--seed", required=True, type=int)
    parser.add_argument("--image-list", required=True, type=Path)
    parser.add_argument("--network", required=True, type=Path, help="the checkpoint's manifest")
    parser.add_argument("--encoder", required=True, type=Path, help="the checkpoint's manifest")
    parser.add_argument("--output", required=True, type=Path)
    arguments = parser.parse_args()
    dataset = Dataset.model_validate_json(arguments.dataset)
    images = ImageList.read(arguments.image_list)
    spec = specify(
        model=Model.model_validate_json(arguments.model),
        dataset=arguments.dataset_name,
        seed=arguments.seed,
        image_list=images.sha256,
        border=border_of(dataset),
        candidates=candidates(dataset, images, ClassList.load(dataset.labels)),
        network_sha256=Manifest.read(arguments.network).sha256,
        encoder_sha256=Manifest.read(arguments.encoder).sha256,
    )
    spec.write(arguments.output)
    print(f"spec {spec.sha256}")


if __name__ == "__main__":
    run(main)
