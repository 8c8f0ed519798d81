"""How much work an evaluation is, read off the config alone. No torch."""

from __future__ import annotations

from genclass.config import Dataset, Network, RandARNetwork, Size
from genclass.data.class_lists import ClassList
from genclass.errors import GenclassError
from genclass.models.flops import dit_flops, randar_flops
from genclass.models.sizes import DIT, RANDAR


def network_flops(network: Network, tokens: int | None = None) -> int:
    """Necessary floating-point operations of one forward pass of a network.

    tokens: of an order its first tokens alone; None: the whole.
    """
    named = RANDAR if isinstance(network, RandARNetwork) else DIT
    size = network.size.model_dump() if isinstance(network.size, Size) else named[network.size]
    if isinstance(network, RandARNetwork):
        return randar_flops(**size, vocabulary=network.vocabulary, tokens=tokens or network.grid**2)
    return dit_flops(
        **size, patch=network.patch, latent_size=network.latent_size, channels=network.channels
    )


def candidate_count(name: str, dataset: Dataset) -> int:
    """How many classes are scored on a dataset.

    Raises:
        GenclassError: they are the present ones, and the config does not say how many.
    """
    if dataset.candidates == "all":
        return len(ClassList.load(dataset.labels).entries)
    if dataset.classes is None:
        raise GenclassError(
            f"datasets.{name}: its candidates are the classes present: add `classes:`, their number"
        )
    return dataset.classes
