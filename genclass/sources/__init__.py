"""Downloads, checksums, manifests and safe archives: everything that comes from outside.

A source is a list of places tried in order; the checksum decides, not the place. This package
imports `genclass.errors` and `genclass.files` and nothing else of genclass.
"""

from genclass.sources.archives import unpack, why_no_archive
from genclass.sources.fetching import Wanted, fetch
from genclass.sources.hub import Listed
from genclass.sources.listing import list_place
from genclass.sources.lockfile import Locked, LockFile
from genclass.sources.manifest import Manifest, folder_manifest
from genclass.sources.network import Patience
from genclass.sources.places import DrivePlace, HubPlace, LocalPlace, Place, UrlPlace, parse_place
from genclass.sources.progress import Progress

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
