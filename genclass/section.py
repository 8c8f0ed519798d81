"""What every section of the config is made of: its base, and types of names, sums and folders."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from genclass.text import canonical_json

PATTERNS = {  # and what messages say of them
    "name": (  # it becomes a file's, with more around it
        r"^[a-z0-9][a-z0-9._-]{0,99}$",
        "a name has small letters, digits, '.', '_' and '-' only, 100 at most",
    ),
    "sha256": (r"^[0-9a-f]{64}$", "a sha256 has 64 hexadecimal digits, in small letters"),
    "md5": (r"^[0-9a-f]{32}$", "an md5 has 32 hexadecimal digits, in small letters"),
    "folder": (  # nothing expands '~' and '$'; braces are Snakemake's
        r"^([^~{}$/]|[^~{}$][^{}$]*[^{}$/])$",
        "write the folder's path out, without '~', '$', '{', '}' and a '/' at its end",
    ),
}
Name = Annotated[str, StringConstraints(pattern=PATTERNS["name"][0])]
Sha256 = Annotated[str, StringConstraints(pattern=PATTERNS["sha256"][0])]
Md5 = Annotated[str, StringConstraints(pattern=PATTERNS["md5"][0])]
Folder = Annotated[str, StringConstraints(pattern=PATTERNS["folder"][0])]
Dtype = Literal["float32", "bfloat16"]
Layout = Literal["image_folder", "imagenet_val", "numeric_folders", "imagenet_c", "objectnet"]
Aggregation = Literal["mean_log_p", "mean_softmax", "logsumexp"]
PositiveInt = Annotated[int, Field(ge=1)]
# Beyond these it is a mistake: no test set is as large, and accuracies are of every budget.
ImageCount = Annotated[int, Field(ge=1, le=10_000_000)]
ExhaustiveCount = Annotated[int, Field(ge=0, le=10_000_000)]
TrialCount = Annotated[int, Field(ge=1, le=10_000)]


class Section(BaseModel):
    """A mapping of the config; a key that it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def text_of(self, part: type[Section]) -> str:
        """Of a section, the keys of one of the types that it is cut into, as canonical JSON.

        What stands at its default is left out: what depends on the text is not computed anew
        because of an option that it does not use.
        """
        keys = _keys_of(part)
        return canonical_json(self.model_dump(mode="json", include=keys, exclude_defaults=True))


def _keys_of(part: type[Section]) -> dict[str, Any]:
    """The keys of a type of section, and of the sections within it, as pydantic includes them."""
    keys: dict[str, Any] = {}
    for name, field in part.model_fields.items():
        inner = [t for t in (field.annotation, *get_args(field.annotation)) if _is_cut(t)]
        keys[name] = _keys_of(inner[0]) if inner else True
    return keys


def _is_cut(annotation: Any) -> bool:
    """Is it a part of a larger section, such as what a download is?"""
    return isinstance(annotation, type) and issubclass(annotation, Part)


class Stored(Section):
    """What stands in a file that is read back: finite, so that JSON can say it."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Part(Section):
    """Some keys of a section that one thing depends on: the section has them as a base."""
