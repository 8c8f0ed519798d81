"""Rule train_network: one checkpoint of the miniature, trained on the digits."""

import argparse
from pathlib import Path

import torch
from pydantic import TypeAdapter

from genclass.config import Encoder, Network, Training
from genclass.miniature.training import train_network
from genclass.scripting import run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--sections", required=True, help="network (null: train the encoder) and encoder, as JSON"
    )
    parser.add_argument("--training", required=True, help="its section as JSON")
    parser.add_argument("--seed", required=True, type=int)
    parser.add_argument("--images", required=True, type=Path, help="an ImageFolder of digits")
    parser.add_argument("--encoder-checkpoint", type=Path, nargs="?")
    parser.add_argument("--threads", required=True, type=int)
    parser.add_argument("--output", required=True, type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    sections: TypeAdapter[tuple[Network | None, Encoder]] = TypeAdapter(
        tuple[Network | None, Encoder]
    )
    network, encoder = sections.validate_json(arguments.sections)
    train_network(
        network=network,
        encoder=encoder,
        training=Training.model_validate_json(arguments.training),
        seed=arguments.seed,
        images=arguments.images,
        encoder_checkpoint=arguments.encoder_checkpoint,
        destination=arguments.output,
    )


if __name__ == "__main__":
    run(main)
