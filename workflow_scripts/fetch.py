"""Rule fetch: a checkpoint or dataset on disk, verified, with its manifest."""

import argparse
from pathlib import Path

from genclass.config import Checkpoint, Dataset
from genclass.data.fetch import fetch_checkpoint, fetch_dataset
from genclass.scripting import run
from genclass.sources import LockFile


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", required=True, choices=["checkpoints", "datasets"])
    parser.add_argument("--name", required=True)
    parser.add_argument("--section", required=True, help="its section of the config, as JSON")
    parser.add_argument("--downloads", required=True, type=Path)
    parser.add_argument("--lock", required=True, type=Path, help="checksums of first downloads")
    parser.add_argument("--offline", action="store_true")
    parser.add_argument("--manifest", required=True, type=Path)
    arguments = parser.parse_args()
    places = (arguments.downloads, LockFile(arguments.lock), arguments.offline)
    if arguments.kind == "checkpoints":
        checkpoint = Checkpoint.model_validate_json(arguments.section)
        manifest = fetch_checkpoint(arguments.name, checkpoint, *places)
    else:
        dataset = Dataset.model_validate_json(arguments.section)
        manifest = fetch_dataset(arguments.name, dataset, *places)
    manifest.write(arguments.manifest)
    print(f"{manifest.path}: {manifest.bytes} bytes, sha256 {manifest.sha256}")


if __name__ == "__main__":
    run(main)
