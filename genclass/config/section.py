"""What every section of the config is made of: its base, and types of names, sums and folders."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

PATTERNS = {  # and what messages say of them
    "name": (r"^[a-z0-9][a-z0-9._-]*$", "a name has small letters, digits, '.', '_' and '-' only"),
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

DIFFUSION_STEPS = 1000  # the linear schedule of DiT, and the grid that SiT's t is read from


class Section(BaseModel):
    """A mapping of the config; a key that it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)
