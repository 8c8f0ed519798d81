"""The spec: exactly what changes the numbers of one (model, dataset), and nothing else.

Light: rules that only write specs do not import torch.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from genclass.config import (
    Classifier,
    Encoder,
    Model,
    Network,
    Section,
    Strategy,
    canonical_json,
    digest,
)
from genclass.errors import GenclassError
from genclass.files import write_atomically

# Raised by hand when the code may give other numbers than before: every score is computed anew.
# A test holds a digest of the scoring sources beside it.
SCORING_VERSION = 1


class Spec(Section):
    """In `network` and `encoder`, `checkpoint` is the sha256 of the file, not its name."""

    scoring_version: int
    seed: int
    dataset: str  # the name: draws depend on it
    image_list: str  # sha256
    border: int  # pixels that are cut off each side of an image before anything else
    candidates: list[int]
    image_size: int
    network: Network
    encoder: Encoder
    classifier: Classifier
    strategy: Strategy
    budget: int | None  # trials of a race, which depends on it; None: exhaustive, any budget

    @property
    def text(self) -> str:
        """The canonical JSON."""
        return canonical_json(self.model_dump(mode="json"))

    @property
    def sha256(self) -> str:
        return digest(self.text)

    def write(self, path: str | Path) -> None:
        write_atomically(path, self.text)

    @classmethod
    def read(cls, path: str | Path) -> Spec:
        """
        Raises:
            GenclassError: the file is missing or no spec.
        """
        try:
            return cls.model_validate_json(Path(path).read_bytes())
        except OSError as error:
            raise GenclassError(f"{path}: cannot read the spec: {error.strerror}") from None
        except ValidationError:
            raise GenclassError(f"{path}: no spec of this version: delete it and rerun") from None


def specify(
    model: Model,
    dataset: str,
    seed: int,
    image_list: str,
    border: int,
    candidates: list[int],
    network_sha256: str,
    encoder_sha256: str,
) -> Spec:
    """The spec of a model on a dataset; where the model races, `model.trials` is its budget there.

    Raises:
        GenclassError: a candidate is no class of the network.
    """
    beyond = [c for c in candidates if c >= model.network.classes]
    if beyond:
        raise GenclassError(
            f"{dataset}: class {beyond[0]} is a candidate, but the network of '{model.title}' "
            f"knows {model.network.classes} classes: correct the dataset's labels"
        )
    return Spec(
        scoring_version=SCORING_VERSION,
        seed=seed,
        dataset=dataset,
        image_list=image_list,
        border=border,
        candidates=candidates,
        image_size=model.image_size,
        network=model.network.model_copy(update={"checkpoint": network_sha256}),
        encoder=model.encoder.model_copy(update={"checkpoint": encoder_sha256}),
        classifier=model.classifier,
        strategy=model.strategy,
        budget=model.trials if model.races else None,
    )
