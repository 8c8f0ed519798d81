"""A place is where a file may come from, written as one string in the config."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from genclass.errors import GenclassError

FORMS = (
    "https://..., hf://[datasets/]owner/name[@revision]/path (or a pattern with *), "
    "gdrive://FILE_ID, gdrive://FOLDER_ID/path or file:path"
)
_HUB = re.compile(
    r"hf://(?P<datasets>datasets/)?(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[\w.-]+))?/(?P<path>.+)"
)
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_DRIVE = re.compile(r"gdrive://(?P<id>[\w-]{10,})(/(?P<path>.+))?")


@dataclass(frozen=True)
class UrlPlace:
    """A plain address; its server may or may not serve ranges."""

    url: str

    def __str__(self) -> str:
        return self.url


@dataclass(frozen=True)
class HubPlace:
    """A file of a Hugging Face repository at a revision (a commit, a tag or a branch).

    `*` in its path stands for anything, `/` as well; exactly one file of the repository may match.
    """

    repo: str
    path: str
    revision: str = "main"
    kind: Literal["model", "dataset"] = "model"

    @property
    def page(self) -> str:
        """The repository as the hub's pages name it."""
        return f"datasets/{self.repo}" if self.kind == "dataset" else self.repo

    @property
    def is_pattern(self) -> bool:
        """Is the file's name not known yet?"""
        return "*" in self.path

    def matches(self, path: str) -> bool:
        """Does the path of a file fit its path or pattern?"""
        pattern = ".*".join(re.escape(part) for part in self.path.split("*"))
        return re.fullmatch(pattern, path) is not None

    def __str__(self) -> str:
        return f"hf://{self.page}@{self.revision}/{self.path}"


@dataclass(frozen=True)
class DrivePlace:
    """A public Google Drive file: by its id, or by its folder's id and its path in there."""

    id: str
    path: str | None = None

    def __str__(self) -> str:
        return f"gdrive://{self.id}" + (f"/{self.path}" if self.path else "")


@dataclass(frozen=True)
class LocalPlace:
    """A file or folder of the user's, used where it lies."""

    path: Path

    def __str__(self) -> str:
        return f"file:{self.path}"


Place = UrlPlace | HubPlace | DrivePlace | LocalPlace


def parse_place(text: str) -> Place:
    """The place that `text` names.

    Raises:
        GenclassError: `text` has none of the known forms, or holds a password.
    """
    if control := _CONTROL.search(text):
        raise GenclassError(
            f"{text!r} is no place to fetch from: it holds {control[0]!r}: remove it"
        )
    if long := next((part for part in text.split("/") if len(part.encode()) > 255), None):
        raise GenclassError(
            f"'{long[:40]}...' is no name in a place: it has {len(long)} letters, and file systems "
            "take 255 bytes: shorten it"
        )
    if text.startswith(("https://", "http://")):
        try:
            parts = urlsplit(text)
        except ValueError as error:  # such as http://[::1/x
            raise GenclassError(
                f"{text!r} is no place to fetch from: {error}: correct it"
            ) from None
        if parts.username is not None:
            raise GenclassError(
                f"a place on {parts.hostname} holds a user name or password, which reports would "
                "show: remove it, and put the file in place yourself"
            )
        if parts.hostname:
            return UrlPlace(text)
    elif text.startswith("file:"):
        path = text.removeprefix("file:")
        path = path.removeprefix("//") if path.startswith("///") else path
        if path:
            return LocalPlace(Path(path).expanduser())
    elif hub := _HUB.fullmatch(text):
        if ".." not in hub["path"].split("/"):
            kind: Literal["model", "dataset"] = "dataset" if hub["datasets"] else "model"
            return HubPlace(hub["repo"], hub["path"], hub["revision"] or "main", kind)
    elif drive := _DRIVE.fullmatch(text):
        return DrivePlace(drive["id"], drive["path"])
    hint = "" if ":" in text else f" (for a file of yours: file:{text})"
    raise GenclassError(f"{text!r} is no place to fetch from: write {FORMS}{hint}")
