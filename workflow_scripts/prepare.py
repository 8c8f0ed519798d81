"""Rule prepare: the image list of a dataset."""

import argparse
from pathlib import Path

from genclass.config import Selection
from genclass.data.class_lists import ClassList
from genclass.data.prepare import prepare
from genclass.scripting import run
from genclass.sources import Manifest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", required=True)
    parser.add_argument("--selection", required=True, help="which of its images, as JSON")
    parser.add_argument("--seed", required=True, type=int, help="of the order of the images")
    parser.add_argument("--manifest", required=True, type=Path)
    parser.add_argument("--output", required=True, type=Path)
    arguments = parser.parse_args()
    selection = Selection.model_validate_json(arguments.selection)
    images = prepare(
        arguments.name,
        selection,
        Manifest.read(arguments.manifest).path,
        ClassList.load(selection.labels),
        seed=arguments.seed,
    )
    images.write(arguments.output)
    print(f"{arguments.name}: {len(images)} images")


if __name__ == "__main__":
    run(main)
