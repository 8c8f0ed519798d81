"""What comes where a file was asked for: nothing, a web page, a pointer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

_POINTERS = {
    b"version https://git-lfs": "a Git LFS pointer, not the file that it stands for",
    b"/annex/objects": "a git-annex pointer, not the file that it stands for",
}


def mistaken(path: Path) -> str | None:
    """What came in place of any file at all: nothing, a web page, a pointer; or None.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(1 << 16)
    if not start:
        return "an empty file"
    for beginning, reason in _POINTERS.items():
        if start.startswith(beginning):
            return reason
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    is_page = re.match(rb"<[!?a-zA-Z]", text) and b"\0" not in text[:64]
    return page_reason(text.decode(errors="replace")) if is_page else None


def page_reason(html: str) -> str:
    """Why a web page came in place of a file, as far as it can be read from the page."""
    if re.search(r"quota|too many users", html, re.IGNORECASE):
        return "its download quota is used up: try again in a day"
    title = re.search(r"<title[^>]*>(.*?)</title>", html, re.IGNORECASE | re.DOTALL)
    named = f" ({' '.join(title[1].split())!r})" if title and title[1].strip() else ""
    return f"a web page{named} came, not the file"


def some(names: Sequence[str], most: int = 5) -> str:
    """The first few, and how many more."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
