"""Image classifiers of `transformers`: vision transformers that were trained to name classes.

They are what generative classifiers are compared with. One pass scores all classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from genclass.errors import GenclassError
from genclass.families.card import Family, MadeUp, Role, Scoring, Trial, Work
from genclass.families.operations import attention, linear
from genclass.families.size import Size
from genclass.section import Name, PositiveInt

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from genclass.scorers.scorer import Scorer

SIZES: dict[str, Size] = {
    "S": Size(layers=12, heads=6, width=384),
    "B": Size(layers=12, heads=12, width=768),
    "L": Size(layers=24, heads=16, width=1024),
    "H": Size(layers=32, heads=16, width=1280),
    "XL": Size(layers=40, heads=24, width=1536),  # the paper's name for DINOv2-g
}
_LABELS = 0.95  # the share of classes that must be called alike: lists differ in some spellings


class ImageClassifier(Family):
    """ViT, DINOv2 and their kin, with the files that stand beside the weights on the hub.

    Without `configuration` it is a ViT of this size, without `preprocessing` it reads the crop that
    the other families read, in [-1, 1].
    """

    library = "transformers.modeling_utils"  # of every network; `transformers` imports on demand
    checkpoint_fields: ClassVar[tuple[str, ...]] = ("checkpoint", "configuration", "preprocessing")
    likelihood = False
    made_up = MadeUp(level=-7.0, trial_noise=0.01)
    benched = ({"size": "L"},)
    benched_model: ClassVar[dict[str, Any]] = {"image_size": 224}

    architecture: Literal["image_classifier"]
    configuration: Name | None = None  # the config.json among the checkpoints
    preprocessing: Name | None = None  # and the preprocessor_config.json
    size: Literal["S", "B", "L", "H", "XL"] | Size
    patch: PositiveInt = 16  # pixels along a side of one
    grid: PositiveInt = 14  # the image is grid x grid patches
    labels: str | None = "imagenet"  # class list that the order of its classes is checked against

    @property
    def shape(self) -> Size:
        return self.size if isinstance(self.size, Size) else SIZES[self.size]

    def network(self) -> nn.Module:
        from genclass.models.image_classifier import vision_transformer

        return vision_transformer(
            **self.shape.model_dump(),
            patch=self.patch,
            image_size=self.patch * self.grid,
            classes=self.classes,
        )

    def loaded(self, files: Mapping[str, Path], device: torch.device) -> nn.Module:
        from genclass.models.image_classifier import from_configuration, image_processor
        from genclass.sources.checkpoints import misfit, read_checkpoint

        network: Any
        if "configuration" in files:
            with _told_of(files["configuration"]) as text:
                network, wrong = from_configuration(
                    text, read_checkpoint(files["network"], self.weights)
                )
            if wrong:
                raise misfit(files["network"], network, wrong)
            self._check(network.config, files["configuration"])
        else:
            network = super().loaded(files, device)
        if "preprocessing" in files:
            with _told_of(files["preprocessing"]) as text:
                network.preprocessing = image_processor(network, text)
        return network

    def _check(self, configuration: Any, path: Path) -> None:
        """It is what the config says, and has its classes in the order of the class list."""
        for key, ours, theirs in (
            ("size.layers", self.shape.layers, "num_hidden_layers"),
            ("size.heads", self.shape.heads, "num_attention_heads"),
            ("size.width", self.shape.width, "hidden_size"),
            ("patch", self.patch, "patch_size"),
            ("classes", self.classes, "num_labels"),
        ):
            if (found := getattr(configuration, theirs, None)) != ours:
                raise GenclassError(
                    f"{path}: {theirs} is {found}, but network.{key} says {ours}: correct it"
                )
        if self.labels is None:
            return
        from genclass.data.class_lists import ClassList

        names = {entry.class_id: entry.name for entry in ClassList.load(self.labels).entries}
        strangers = [
            label
            for label, text in configuration.id2label.items()
            if _plain(names.get(label, "")) not in map(_plain, text.split(","))
        ]
        if len(strangers) > (1 - _LABELS) * len(configuration.id2label):
            label = strangers[0]
            raise GenclassError(
                f"{path}: class {label} is '{configuration.id2label[label]}', in the class list "
                f"{self.labels} it is '{names.get(label, '')}', and {len(strangers) - 1} more "
                f"differ: name a list in their order under network.labels, or null"
            )

    def scorer(self) -> type[Scorer]:
        from genclass.scorers.logits import LogitsScorer

        return LogitsScorer

    def plain(self) -> Callable[[Any, Any, int, Tensor], Tensor]:
        from genclass.scorers.plain import named_class

        return named_class

    def objective(
        self, network: Any, encoder: Any, pixels: Tensor, labels: Tensor, training: Any
    ) -> Callable[[], Tensor]:
        from genclass.models.objectives import named_class

        return named_class(network, pixels, labels, training.batch)

    def role(self, options: Scoring) -> Role:
        return "discriminative"

    def trial(self, options: Scoring) -> Trial:
        return Trial("prediction", limit=1)

    def work(self, options: Scoring) -> Work:
        """A feed-forward of four times the width, or a gated one of as many weights (DINOv2-g).

        DINOv2's head reads twice the width: one millionth of the whole.
        """
        width, patches = self.shape.width, self.grid**2
        tokens = patches + 1
        layer = tokens * 3 * linear(width, 4 * width) + attention(tokens, tokens, width)
        return Work(
            score=0,
            image=patches * linear(3 * self.patch**2, width)
            + self.shape.layers * layer
            + linear(width, self.classes),
        )


def _plain(name: str) -> str:
    return name.strip().replace("_", " ").casefold()


@contextmanager
def _told_of(path: Path) -> Iterator[str]:
    """The text of a file; what is wrong with it is said with its path."""
    try:
        yield path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise GenclassError(f"{path}: {error}") from None
