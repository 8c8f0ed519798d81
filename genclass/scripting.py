"""How a command or a script starts and ends: plugins first; one line for what a user can mend."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from genclass.errors import GenclassError
from genclass.families import load_plugins, plugins_of_the_run
from genclass.sources import Manifest


def run(main: Callable[[], object]) -> None:
    """Run `main`; a GenclassError becomes `error: ...` on stderr and exit code 1.

    A bug keeps its traceback. What the terminal's or log's encoding lacks is replaced, not an end
    to the run; and a reader that goes away, such as `head`, is no error to report.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        load_plugins(plugins_of_the_run())
        main()
    except GenclassError as error:
        sys.exit(f"error: {error}")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def manifests(parts: Sequence[str], paths: Sequence[Path]) -> dict[str, Manifest]:
    """What each checkpoint is for -> its manifest, of two options that list them side by side."""
    return {part: Manifest.read(path) for part, path in zip(parts, paths, strict=True)}


def files(parts: Sequence[str], paths: Sequence[Path]) -> dict[str, Path]:
    """What each checkpoint is for -> the file that its manifest names."""
    return {part: Path(manifest.path) for part, manifest in manifests(parts, paths).items()}
