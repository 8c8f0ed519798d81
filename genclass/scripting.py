"""How a workflow script ends: a clear line for what the user can mend, a traceback for a bug."""

from __future__ import annotations

import sys
from collections.abc import Callable

from genclass.errors import GenclassError


def run(main: Callable[[], None]) -> None:
    """Run a script's `main`; a GenclassError becomes `error: ...` on stderr and exit code 1."""
    try:
        main()
    except GenclassError as error:
        sys.exit(f"error: {error}")
