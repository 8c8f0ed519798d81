"""Downloads, checksums, manifests and safe archives: everything that comes from outside.

A source is a list of places tried in order; the checksum decides, not the place. This package
imports `genclass.errors` and `genclass.files` and nothing else of genclass. What asks the network
is imported where it is used: most jobs read manifests, and fetch what is on disk.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from genclass.sources.archives import unpack, why_no_archive
from genclass.sources.fetching import Wanted, fetch
from genclass.sources.lockfile import Locked, LockFile
from genclass.sources.manifest import Manifest, folder_manifest
from genclass.sources.patience import Patience
from genclass.sources.places import DrivePlace, HubPlace, LocalPlace, Place, UrlPlace, parse_place
from genclass.sources.progress import Progress

if TYPE_CHECKING:
    from genclass.sources.hub import Listed
    from genclass.sources.listing import list_place

__all__ = [
    "DrivePlace",
    "HubPlace",
    "Listed",
    "LocalPlace",
    "LockFile",
    "Locked",
    "Manifest",
    "Patience",
    "Place",
    "Progress",
    "UrlPlace",
    "Wanted",
    "fetch",
    "folder_manifest",
    "list_place",
    "parse_place",
    "unpack",
    "why_no_archive",
]

_OF_THE_NETWORK = {"Listed": "hub", "list_place": "listing"}


def __getattr__(name: str) -> Any:
    if name not in _OF_THE_NETWORK:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_OF_THE_NETWORK[name]}"), name)
