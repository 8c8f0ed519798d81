"""Hugging Face: which file a place means right now, and how to ask for it.

huggingface_hub says what the hub knows (commit, size, sha256, who may read it); the bytes come by
our own download, because `hf_hub_download` begins a killed download again from zero.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from huggingface_hub import (
    constants,
    get_hf_file_metadata,
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

from genclass.sources.network import Patience, PlaceFailed, TryAgain, refuse_status
from genclass.sources.places import HubPlace


@dataclass(frozen=True)
class HubFile:
    """A hub place made definite: its revision is a commit."""

    place: HubPlace
    url: str
    headers: Mapping[str, str]
    bytes: int | None
    sha256: str | None  # of large files; the hub knows no sha256 of small ones


def is_offline() -> bool:
    """Is HF_HUB_OFFLINE set?"""
    return bool(constants.HF_HUB_OFFLINE)


def resolve(place: HubPlace, patience: Patience) -> HubFile:
    """Ask the hub at HF_ENDPOINT, with the token in HF_TOKEN if there is one.

    Raises:
        PlaceFailed: the hub does not give the file.
        TryAgain: it may do so later.
    """
    kind = None if place.kind == "model" else place.kind
    endpoint = (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")
    url = hf_hub_url(
        place.repo, place.path, repo_type=kind, revision=place.revision, endpoint=endpoint
    )
    page = f"{endpoint}/{place.page}"
    try:
        found = get_hf_file_metadata(url, timeout=patience.timeout, endpoint=endpoint)
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


def cached(place: HubPlace) -> tuple[HubPlace, Path] | None:
    """The file in the user's Hugging Face cache, and the commit it is of; for work offline."""
    kind = None if place.kind == "model" else place.kind
    path = try_to_load_from_cache(place.repo, place.path, revision=place.revision, repo_type=kind)
    if not isinstance(path, str):
        return None
    depth = place.path.count("/") + 1
    return replace(place, revision=Path(path).parents[depth - 1].name), Path(path)
