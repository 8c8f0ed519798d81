"""How a workflow script starts and ends: plugins first; a clear line for what the user can mend."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from genclass.errors import GenclassError
from genclass.families import load_plugins, plugins_of_the_run
from genclass.sources import Manifest


def run(main: Callable[[], None]) -> None:
    """Call a script's main; a GenclassError is one line on stderr and exit code 1."""
    try:
        load_plugins(plugins_of_the_run())
        main()
    except GenclassError as error:
        sys.exit(f"error: {error}")


def manifests(parts: Sequence[str], paths: Sequence[Path]) -> dict[str, Manifest]:
    """What each checkpoint is for -> its manifest, of two options that list them side by side."""
    return {part: Manifest.read(path) for part, path in zip(parts, paths, strict=True)}


def files(parts: Sequence[str], paths: Sequence[Path]) -> dict[str, Path]:
    """What each checkpoint is for -> the file that its manifest names."""
    return {part: Path(manifest.path) for part, manifest in manifests(parts, paths).items()}
