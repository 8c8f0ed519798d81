"""A server on this machine, for tests of downloads."""

from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from tests.support.archives import contents, make_tar


class Web:
    """A folder that is served, and what was asked of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "web"
        self.folder.mkdir()
        asked: list[str] = []

        class Handler(SimpleHTTPRequestHandler):
            def log_request(self, code: Any = "-", size: Any = "-") -> None:
                asked.append(self.path)

        self.asked = asked
        self.server = ThreadingHTTPServer(
            ("127.0.0.1", 0), partial(Handler, directory=str(self.folder))
        )
        Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/{name}"

    def put(self, name: str, content: bytes) -> str:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return self.url(name)

    def put_tar(self, name: str, folder: Path) -> str:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        make_tar(path, contents(folder))
        return self.url(name)
