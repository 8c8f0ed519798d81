"""Hugging Face: which file a place means right now, and how to ask for it.

huggingface_hub says what the hub knows (commit, size, sha256, who may read it); the bytes come by
our own download, because `hf_hub_download` begins a killed download again from zero.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from huggingface_hub import (
    HfApi,
    constants,
    get_hf_file_metadata,
    get_token,
    hf_hub_url,
    try_to_load_from_cache,
)
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HTTPError,  # the one of httpx or of httpx2, as the version of the hub has it
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import build_hf_headers

from genclass.sources.network import check_environment
from genclass.sources.patience import Patience, PlaceFailed, TryAgain, refuse_status
from genclass.sources.places import HubPlace
from genclass.sources.wrong_files import some


@dataclass(frozen=True)
class HubFile:
    """A hub place made definite: its revision is a commit."""

    place: HubPlace
    url: str
    headers: Mapping[str, str]
    bytes: int | None
    sha256: str | None  # of large files; the hub knows no sha256 of small ones


@dataclass(frozen=True)
class Listed:
    """One file of a place that holds several."""

    path: str
    bytes: int | None
    sha256: str | None = None  # if the place says it


def is_offline() -> bool:
    """Is HF_HUB_OFFLINE set?"""
    return bool(constants.HF_HUB_OFFLINE)


def resolve(place: HubPlace, patience: Patience) -> HubFile:
    """Ask the hub at HF_ENDPOINT, with the token in HF_TOKEN if there is one.

    Raises:
        PlaceFailed: the hub does not give the file, or not one file matches the pattern.
        TryAgain: it may do so later.
    """
    if place.is_pattern:
        commit, files = listing(place, patience)
        there = [file.path for file in files]
        matching = [path for path in there if place.matches(path)]
        if len(matching) != 1:
            names = some(matching or there, 20) or "no file"
            count = f"{len(matching)} files match" if matching else "no file matches"
            raise PlaceFailed(f"{count} {place.path!r}; there: {names}: write a path that fits one")
        place = replace(place, path=matching[0], revision=commit)
    kind = None if place.kind == "model" else place.kind
    endpoint = _endpoint()
    url = hf_hub_url(
        place.repo, place.path, repo_type=kind, revision=place.revision, endpoint=endpoint
    )
    with _answers(place, endpoint):
        found = get_hf_file_metadata(url, timeout=patience.timeout, endpoint=endpoint)
    if found.commit_hash is None:
        raise PlaceFailed(f"{endpoint} does not answer like a hub: check HF_ENDPOINT and the proxy")
    etag = found.etag or ""
    return HubFile(
        replace(place, revision=found.commit_hash),
        hf_hub_url(
            place.repo, place.path, repo_type=kind, revision=found.commit_hash, endpoint=endpoint
        ),
        {key: value for key, value in build_hf_headers().items() if key == "authorization"},
        found.size,
        etag if re.fullmatch(r"[0-9a-f]{64}", etag) else None,
    )


def listing(place: HubPlace, patience: Patience) -> tuple[str, list[Listed]]:
    """The commit that `place.revision` is, and all files of the repository there.

    Raises:
        PlaceFailed: the hub does not show it.
        TryAgain: it may do so later.
    """
    endpoint = _endpoint()
    with _answers(place, endpoint):
        info = HfApi(endpoint=endpoint).repo_info(
            place.repo,
            repo_type=place.kind,
            revision=place.revision,
            timeout=patience.timeout,
            files_metadata=True,
        )
    siblings = getattr(info, "siblings", None)
    if info.sha is None or siblings is None:
        raise PlaceFailed(f"{endpoint} does not answer like a hub: check HF_ENDPOINT and the proxy")
    return info.sha, [
        Listed(file.rfilename, file.size, file.lfs.sha256 if file.lfs else None)
        for file in siblings
    ]


def _endpoint() -> str:
    """Where the hub is, after a look at what would make every question fail."""
    check_environment()
    token = get_token() or ""
    if odd := sorted({char for char in token if not "!" <= char <= "~"}):
        raise PlaceFailed(
            f"the token in HF_TOKEN (or of hf auth login) holds {some([repr(c) for c in odd])}: "
            "set it anew, letters and digits only"
        )
    endpoint = (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")
    if not endpoint.startswith(("https://", "http://")):
        raise PlaceFailed(f"HF_ENDPOINT={endpoint} is no address: write https://{endpoint}")
    return endpoint


@contextmanager
def _answers(place: HubPlace, endpoint: str) -> Iterator[None]:
    """What the hub refuses, as PlaceFailed or TryAgain."""
    page = f"{endpoint}/{place.page}"
    try:
        yield
    except GatedRepoError as error:
        raise PlaceFailed(f"gated: accept its licence at {page} and set HF_TOKEN") from error
    except RepositoryNotFoundError as error:
        raise PlaceFailed(
            f"no repository, or a gated one: check {page}, accept its licence there if it has one "
            "and set HF_TOKEN"
        ) from error
    except RevisionNotFoundError as error:
        raise PlaceFailed(f"no revision {place.revision!r} at {page}") from error
    except EntryNotFoundError as error:
        raise PlaceFailed(f"no file {place.path!r} at {page}") from error
    except HfHubHTTPError as error:
        if error.response.status_code == 401:
            raise PlaceFailed("HTTP 401: the token in HF_TOKEN is not valid") from error
        refuse_status(error.response.status_code, error.response.headers)
        raise
    except HTTPError as error:
        raise TryAgain(str(error) or type(error).__name__) from error
    except (ValueError, KeyError, TypeError) as error:  # an answer in another form
        raise PlaceFailed(
            f"{endpoint} does not answer like a hub ({error}): check HF_ENDPOINT and the proxy"
        ) from error


def cached(place: HubPlace) -> tuple[HubPlace, Path] | None:
    """The file in the user's Hugging Face cache, and the commit it is of; for work offline."""
    kind = None if place.kind == "model" else place.kind
    path = try_to_load_from_cache(place.repo, place.path, revision=place.revision, repo_type=kind)
    if not isinstance(path, str):
        return None
    depth = place.path.count("/") + 1
    return replace(place, revision=Path(path).parents[depth - 1].name), Path(path)
