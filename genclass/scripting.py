"""How a command or workflow script ends: a clear line for what the user can mend."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable

from genclass.errors import GenclassError


def run(main: Callable[[], object]) -> None:
    """Run `main`; a GenclassError becomes `error: ...` on stderr and exit code 1.

    A bug keeps its traceback. What the terminal's or log's encoding lacks is replaced, not an end
    to the run; and a reader that goes away, such as `head`, is no error to report.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        main()
    except GenclassError as error:
        sys.exit(f"error: {error}")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
