"""Google Drive, through gdown, which knows the pages that Drive puts before a large file."""

from __future__ import annotations

import re

import gdown
import requests  # only for the exceptions that gdown lets through

from genclass.files import require_space
from genclass.sources.hub import Listed
from genclass.sources.network import check_environment
from genclass.sources.partial_file import PartialFile
from genclass.sources.patience import Patience, PlaceFailed, TryAgain, persist, refuse_status
from genclass.sources.places import DrivePlace
from genclass.sources.progress import Progress


def download(
    place: DrivePlace,
    name: str,
    part: PartialFile,
    size: int | None,
    patience: Patience,
    progress: Progress,
) -> None:
    """Bring the file, of `size` bytes if that is known, into `part`, continuing gdown's beginning.

    Raises:
        PlaceFailed: Drive does not give the file.
        GenclassError: the disk is too small.
    """

    def reached() -> int:
        return max((path.stat().st_size for path in part.of_gdown()), default=0)

    def watch(done: int, total: int | None) -> None:
        if size is not None and total is not None and total != size:
            raise PlaceFailed(f"its file has {total} bytes, not {size}")
        if total is not None:
            require_space(name, part.path.parent, total - done)
        progress.update(name, done, total)

    def attempt(file_id: str) -> None:
        before = reached()
        for extra in part.of_gdown()[1:]:  # gdown refuses to choose
            extra.unlink()
        try:
            gdown.download(
                id=file_id,
                output=str(part.gdrive),
                quiet=True,
                resume=True,
                timeout=patience.timeout,
                progress=watch,
            )
        except gdown.exceptions.FileURLRetrievalError as error:
            raise PlaceFailed(_refusal(str(error))) from error
        except gdown.exceptions.DownloadError as error:
            if error.__cause__ is None and reached() == before:  # it cannot be continued
                for path in part.of_gdown():
                    path.unlink()
            raise TryAgain(" ".join(str(error).split())) from error
        except requests.HTTPError as error:
            if error.response is not None:
                refuse_status(error.response.status_code, error.response.headers)
            raise PlaceFailed(str(error)) from error
        except requests.RequestException as error:
            raise TryAgain(f"{type(error).__name__} after {reached()} bytes") from error

    check_environment()
    file_id = place.id
    if place.path is not None:
        file_id = persist(
            lambda: _id_in_folder(place, patience), name=name, patience=patience, progress=progress
        )
    persist(
        lambda: attempt(file_id), name=name, patience=patience, progress=progress, reached=reached
    )
    part.restart(str(place), None)
    part.gdrive.replace(part.path)


def listing(place: DrivePlace, patience: Patience, progress: Progress) -> list[Listed]:
    """The files of a public folder; Drive tells no sizes.

    Raises:
        PlaceFailed: Drive does not show it.
    """
    ids = persist(
        lambda: _ids_in_folder(place, patience),
        name=str(place),
        patience=patience,
        progress=progress,
    )
    return [Listed(path, None) for path in ids]


def _id_in_folder(place: DrivePlace, patience: Patience) -> str:
    ids = _ids_in_folder(place, patience)
    if place.path not in ids:
        there = ", ".join(sorted(ids)[:5]) or "nothing"
        raise PlaceFailed(f"no {place.path!r} in the folder, which has {there}")
    return ids[place.path]


def _ids_in_folder(place: DrivePlace, patience: Patience) -> dict[str, str]:
    try:
        listed = gdown.download_folder(
            id=place.id, skip_download=True, quiet=True, timeout=patience.timeout
        )
    except gdown.exceptions.DownloadError as error:
        raise PlaceFailed(_refusal(str(error))) from error
    except requests.RequestException as error:
        raise TryAgain(f"{type(error).__name__} while listing the folder") from error
    return {file.path: file.id for file in listed if not isinstance(file, str)}


def _refusal(message: str) -> str:
    if re.search(r"quota|too many users", message, re.IGNORECASE):
        return "its download quota is used up: try again in a day"
    return "Drive gives no link to it: it is private, gone, or asked for too often"
