"""Image classifiers of `transformers`, with their preprocessing, off the files of the hub.

Nothing is written anew here: the networks and image processors are the library's. Its image
processors run on Pillow, which needs no torchvision.
"""

import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import transformers
from PIL import Image
from torch import Tensor, nn
from transformers.utils import logging

Preprocessing = Callable[[Image.Image], Tensor]

# It tells on every start that torchvision is missing, and draws bars for reading weights.
logging.set_verbosity_error()
logging.disable_progress_bar()


def vision_transformer(
    layers: int, heads: int, width: int, patch: int, image_size: int, classes: int
) -> nn.Module:
    """A ViT with the weights that training starts from, its feed-forward four times as wide.

    Raises:
        ValueError: sizes that make no network.
    """
    if width % heads or image_size % patch:
        raise ValueError(
            f"ViT: width {width} must be a multiple of heads {heads}, and image_size {image_size} "
            f"of patch {patch}"
        )
    config: Any = transformers.AutoConfig.for_model(
        "vit",
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * width,
        image_size=image_size,
        patch_size=patch,
        num_labels=classes,
    )
    return transformers.ViTForImageClassification(config)


def from_configuration(
    configuration: str, weights: Mapping[str, Tensor]
) -> tuple[nn.Module, list[str]]:
    """The network that a config.json tells of, with released weights; and what did not fit.

    The library renames what older versions of it wrote.

    Raises:
        ValueError: no configuration of an image classifier.
    """
    content = json.loads(configuration)
    kind = content.pop("model_type", None) if isinstance(content, dict) else None
    try:
        config = transformers.AutoConfig.for_model(str(kind), **content)
        architecture: Any = transformers.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING[type(config)]
    except (KeyError, ValueError, TypeError) as error:
        known = " ".join(str(error).split())[:100]
        raise ValueError(f"no configuration of an image classifier: {known}") from None
    network, told = architecture.from_pretrained(
        None,
        config=config,
        state_dict=dict(weights),
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # they are told of
        dtype="float32",
    )
    differences = [f"lacks {key}" for key in told["missing_keys"]]
    differences += [f"has an unknown {key}" for key in told["unexpected_keys"]]
    differences += [
        f"{key} is {list(have)}, expected {list(want)}"
        for key, have, want in told["mismatched_keys"]
    ]
    return network, differences


def image_processor(network: Any, preprocessing: str) -> Preprocessing:
    """What a preprocessor_config.json tells of: an RGB image -> float32 [3, height, width].

    Raises:
        ValueError: no configuration of an image processor for this network.
    """
    with tempfile.TemporaryDirectory() as folder:
        network.config.save_pretrained(folder)  # says which processor an old file is of
        Path(folder, "preprocessor_config.json").write_text(preprocessing, encoding="utf-8")
        try:
            processor = transformers.AutoImageProcessor.from_pretrained(
                folder, backend="pil", local_files_only=True
            )
        except (OSError, ValueError, TypeError, AttributeError) as error:
            known = " ".join(str(error).split())[:100]
            raise ValueError(f"no configuration of an image processor: {known}") from None

    def process(image: Image.Image) -> Tensor:
        pixels: Tensor = processor(image, return_tensors="pt")["pixel_values"][0]
        return pixels

    return process
