"""Rule configure: the resolved config, as the report reads it."""

import argparse
import json
from pathlib import Path

from genclass.config import parse_config
from genclass.files import write_atomically
from genclass.scripting import run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True, help="canonical JSON")
    parser.add_argument("--output", required=True, type=Path)
    arguments = parser.parse_args()
    config = parse_config(json.loads(arguments.config), "--config")
    write_atomically(arguments.output, config.model_dump_json(indent=1) + "\n")


if __name__ == "__main__":
    run(main)
