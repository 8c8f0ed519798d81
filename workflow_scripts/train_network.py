"""Rule train_network: one checkpoint of the miniature, trained on the digits."""

import argparse
import json
from pathlib import Path

import torch

from genclass.config import Training
from genclass.families import ENCODERS, family_of
from genclass.miniature.training import train_network
from genclass.scripting import run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--sections", required=True, help="network and encoder, as JSON; null: train the other"
    )
    parser.add_argument("--training", required=True, help="its section as JSON")
    parser.add_argument("--seed", required=True, type=int)
    parser.add_argument("--images", required=True, type=Path, help="an ImageFolder of digits")
    parser.add_argument("--encoder-checkpoint", type=Path, nargs="?")
    parser.add_argument("--threads", required=True, type=int)
    parser.add_argument("--output", required=True, type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    raw = json.loads(arguments.sections)
    network, encoder = raw["network"], raw["encoder"]
    train_network(
        network=network and family_of(network["architecture"]).model_validate(network),
        encoder=encoder and ENCODERS[encoder["architecture"]].model_validate(encoder),
        training=Training.model_validate_json(arguments.training),
        seed=arguments.seed,
        images=arguments.images,
        encoder_checkpoint=arguments.encoder_checkpoint,
        destination=arguments.output,
    )


if __name__ == "__main__":
    run(main)
