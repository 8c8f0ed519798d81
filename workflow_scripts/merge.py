"""Rule merge: the shards of one cell as one file, and the record of their costs."""

import argparse
from pathlib import Path

from genclass.config import Extent
from genclass.data.image_list import ImageList
from genclass.scores.merge import merge
from genclass.scripting import run
from genclass.specs.spec import Spec


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spec", required=True, type=Path)
    parser.add_argument("--image-list", required=True, type=Path)
    parser.add_argument("--images", required=True, type=int)
    parser.add_argument("--trials", required=True, type=int)
    parser.add_argument(
        "--exhaustive", required=True, type=int, help="of the images, those that do not race"
    )
    parser.add_argument("--scores", required=True, type=Path, help="the merged file to write")
    parser.add_argument("--record", required=True, type=Path, help="the record to write")
    parser.add_argument("shards", nargs="+", type=Path)
    arguments = parser.parse_args()
    record = merge(
        arguments.shards,
        Spec.read(arguments.spec),
        ImageList.read(arguments.image_list),
        Extent(arguments.images, arguments.trials, arguments.exhaustive),
        arguments.scores,
    )
    record.write(arguments.record)


if __name__ == "__main__":
    run(main)
