"""Checkpoints and datasets, cut by consequence: what they are, what is chosen, what is shown."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from genclass.section import ExhaustiveCount, ImageCount, Layout, Md5, Part, PositiveInt, Sha256


class Content(Part):
    """What decides over the bytes of a download, wherever they come from."""

    sha256: Sha256 | None = None  # None: that of the first download is recorded and held
    md5: Md5 | None = None  # for sources that publish only this


class Download(Content):
    """A file or folder from outside; the first place that gives it with the right checksum wins."""

    places: Annotated[list[str], Field(min_length=1)]
    bytes: PositiveInt | None = None
    about_bytes: PositiveInt | None = None  # for the plan, where `bytes` are not known
    licence: str


class Checkpoint(Download):
    """The weights of one network (`.pt`, `.bin`, `.pth` or `.safetensors`)."""


class Archive(Content):
    """What decides over the files of a dataset, once it is unpacked."""

    layout: Layout = "image_folder"
    corruption: str | None = None  # imagenet_c: the folder, e.g. gaussian_noise
    severity: Annotated[int, Field(ge=1, le=5)] | None = None
    devkit: Content | None = None  # imagenet_val from the official tar: the labels
    password: str | None = None  # of a locked archive, where its authors publish one


class Selection(Part):
    """What decides over the images of a dataset that are evaluated, and the candidate classes."""

    layout: Layout = "image_folder"
    corruption: str | None = None
    severity: Annotated[int, Field(ge=1, le=5)] | None = None
    labels: str = "imagenet"  # a class list of the package, or the path of a CSV file
    candidates: Literal["all", "present"] = "all"  # the whole class list, or the set's own classes
    images_per_class: PositiveInt | None = None  # the first n in sorted order; None: all
    images: ImageCount  # in the image list, after the subset rule
    total_images: PositiveInt | None = None  # before the subset rule; None: not checked

    @property
    def border(self) -> int:
        """How many pixels are cut off each side: the red border that marks ObjectNet's images."""
        return 2 if self.layout == "objectnet" else 0


class Dataset(Selection, Archive, Download):
    """A test set. `images` is how many there are after the subset rule; it is checked."""

    title: str
    classes: PositiveInt | None = None  # how many candidates, where they are `present`
    devkit: Download | None = None
    exhaustive: ExhaustiveCount | None = None  # None: as the config says for all datasets
    thumbnails: bool = True  # may the report show its images?

    @property
    def within(self) -> str:
        """The one folder in it that matters; empty: all do."""
        return f"{self.corruption}/{self.severity}" if self.corruption else ""
