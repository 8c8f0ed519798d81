"""What lies at a place that holds several files."""

from __future__ import annotations

import os
import re
from pathlib import Path

from genclass.errors import GenclassError
from genclass.files import disk_errors
from genclass.sources import hub
from genclass.sources.hub import Listed
from genclass.sources.patience import Patience, PlaceFailed, persist
from genclass.sources.places import DrivePlace, HubPlace, LocalPlace, parse_place
from genclass.sources.progress import Progress
from genclass.sources.wrong_files import some

_REPOSITORY = re.compile(r"hf://(datasets/)?[\w.-]+/[\w.-]+(@[\w.-]+)?/?")


def list_place(
    text: str, patience: Patience | None = None, progress: Progress | None = None
) -> list[Listed]:
    """The files of a place, sorted by path.

    `hf://OWNER/NAME` (all of a repository) or `hf://OWNER/NAME/PATTERN` (or a folder in it),
    `gdrive://FOLDER_ID`, or `file:FOLDER`.

    Raises:
        GenclassError: it is no such place, it does not answer, or nothing fits.
    """
    place = parse_place(f"{text.rstrip('/')}/*" if _REPOSITORY.fullmatch(text) else text)
    patience, progress = patience or Patience(), progress or Progress()
    try:
        if isinstance(place, HubPlace):
            asked = place
            found = persist(
                lambda: hub.listing(asked, patience)[1],
                name=text,
                patience=patience,
                progress=progress,
            )
            inside = f"{place.path.rstrip('/')}/"
            fitting = [f for f in found if place.matches(f.path) or f.path.startswith(inside)]
            if not fitting and found:
                names = some([file.path for file in found], 20)
                raise PlaceFailed(f"nothing fits {place.path!r}; there: {names}")
            found = fitting
        elif isinstance(place, DrivePlace) and place.path is None:
            from genclass.sources import drive  # gdown takes its time; needed here only

            found = drive.listing(place, patience, progress)
        elif isinstance(place, LocalPlace) and place.path.is_dir():
            with disk_errors(f"{text}: cannot list", place.path):
                found = [
                    Listed(Path(folder, name).relative_to(place.path).as_posix(), None)
                    for folder, _, names in os.walk(place.path)
                    for name in names
                ]
        else:
            raise PlaceFailed(
                "not to be listed: write hf://OWNER/NAME, gdrive://FOLDER_ID or file:FOLDER"
            )
    except PlaceFailed as reason:
        raise GenclassError(f"{text}: {reason}") from reason
    if not found:
        raise GenclassError(f"{text}: there is no file")
    return sorted(found, key=lambda file: file.path)
