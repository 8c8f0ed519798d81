"""Downloads against servers on 127.0.0.1 that behave badly in every way we could think of."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import io
import json
import os
import re
import select
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import pytest

from genclass.errors import GenclassError
from genclass.sources import (
    Listed,
    LockFile,
    Manifest,
    Patience,
    Progress,
    Wanted,
    fetch,
    list_place,
    parse_place,
)

DATA = bytes(range(256)) * 400  # 102 400 bytes
SHA = hashlib.sha256(DATA).hexdigest()
MD5 = hashlib.md5(DATA).hexdigest()
OTHER = DATA[::-1]
OTHER_SHA = hashlib.sha256(OTHER).hexdigest()
FAST = Patience(timeout=30, attempts=3, pause=0.01, longest_pause=2)
STALLS = replace(FAST, timeout=0.5)  # a busy machine must not look like a stalled one
COMMIT = "c" * 40


# A server with a script


class Request(NamedTuple):
    method: str
    path: str
    headers: dict[str, str]


class Server(ThreadingHTTPServer):
    """Answers each path with the next step of its script; the last step stays."""

    daemon_threads = True
    request_queue_size = 50

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[Request] = []
        self.scripts: dict[str, list[Step]] = defaultdict(lambda: [status(404)])
        self.released = threading.Event()  # ends all stalls
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def play(self, path: str, *steps: Step) -> str:
        self.scripts[path] = list(steps)
        return self.url + path

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # the client is gone: it was killed, or it has seen enough

    def ranges(self) -> list[str | None]:
        return [request.headers.get("range") for request in self.requests]

    def stop(self) -> None:
        self.released.set()
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        self.close_connection = True
        headers = {key.lower(): value for key, value in self.headers.items()}
        self.server.requests.append(Request(self.command, self.path, headers))
        script = self.server.scripts[urlsplit(self.path).path]
        step = script.pop(0) if len(script) > 1 else script[0]
        step(self)
        self.wfile.flush()

    do_HEAD = do_GET

    def answer(self, code: int, headers: dict[str, Any], body: bytes = b"") -> None:
        self.send_response(code)
        for key, value in headers.items():
            self.send_header(key, str(value))
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


Step = Callable[[Handler], None]


def gives(
    data: bytes = DATA,
    *,
    etag: str | None = '"one"',
    modified: str | None = None,
    ranges: bool = True,
    until: int | None = None,
    claims: int | None = None,
    then: Callable[[Handler], None] = lambda handler: None,
) -> Step:
    """Serve `data`, of which only the bytes before `until` are sent, and then do `then`."""

    def step(handler: Handler) -> None:
        start, code = 0, 200
        wanted = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        same = handler.headers.get("If-Range") in (None, etag, modified)
        if ranges and wanted and same:
            start, code = int(wanted[1]), 206
        headers: dict[str, Any] = {"Content-Type": "application/octet-stream"}
        if start >= len(data) and code == 206:
            handler.answer(416, {"Content-Range": f"bytes */{len(data)}", "Content-Length": 0})
            return
        if code == 206:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        if etag:
            headers["ETag"] = etag
        if modified:
            headers["Last-Modified"] = modified
        headers["Content-Length"] = len(data) - start if claims is None else claims
        handler.answer(code, headers, data[start:until])
        handler.wfile.flush()
        then(handler)

    return step


def stall(handler: Handler) -> None:
    handler.server.released.wait(30)


def status(code: int, body: bytes = b"", **headers: str) -> Step:
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    return lambda handler: handler.answer(code, {"Content-Length": len(body), **named}, body)


def page(html: str, code: int = 200) -> Step:
    return status(code, html.encode(), Content_Type="text/html; charset=utf-8")


def slowly(data: bytes, pause: float, piece: int = 4096, etag: str = '"one"') -> Step:
    """Serve a piece every `pause` seconds."""

    def trickle(handler: Handler) -> None:
        start = 0
        if wanted := re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", "")):
            start = int(wanted[1])
        for offset in range(start, len(data), piece):
            handler.wfile.write(data[offset : offset + piece])
            handler.wfile.flush()
            if handler.server.released.wait(pause):
                break

    return gives(data, etag=etag, until=0, then=trickle)


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "ssl_cert_file"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


class Bench:
    """One destination, one lock file, and what was printed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "downloads"
        self.destination = self.folder / "w.pt"
        self.lock = LockFile(folder / "config.lock.json")
        self.printed = io.StringIO()

    def fetch(self, *places: str, **options: Any) -> Manifest:
        how = {name: options.pop(name) for name in ("offline", "patience") if name in options}
        return fetch(
            Wanted("w", places, "MIT", **options),
            self.destination,
            self.lock,
            progress=Progress(self.printed),
            **{"patience": FAST} | how,
        )

    def refused(self, *places: str, **options: Any) -> str:
        with pytest.raises(GenclassError) as error:
            self.fetch(*places, **options)
        text = str(error.value)
        assert "\n" not in text
        return text

    def files(self) -> set[str]:
        """What lies in the downloads folder, but for lock files."""
        return {path.name for path in self.folder.iterdir() if not path.name.endswith(".lock")}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def nowhere(bench: Bench, *reasons: str) -> str:
    return (
        f"w: no place gives it ({'; '.join(reasons)}): "
        f"put the file at {bench.destination} yourself and rerun"
    )


# The good case


def test_a_download(server: Server, bench: Bench) -> None:
    url = server.play("/w.pt", gives())
    manifest = bench.fetch(url, sha256=SHA, bytes=len(DATA), md5=MD5)
    assert bench.destination.read_bytes() == DATA
    path = str(bench.destination)
    assert manifest == Manifest("w", "file", path, url, len(DATA), 1, SHA, "MIT")
    assert bench.files() == {"w.pt", "w.pt.origin.json"}
    assert not bench.lock.path.exists()  # the checksum is pinned: nothing to record

    # Again: nothing is asked, and the manifest is the same.
    assert bench.fetch(url, sha256=SHA) == manifest
    assert len(server.requests) == 1


def test_an_empty_list_of_places_is_said(bench: Bench) -> None:
    assert bench.refused() == nowhere(bench)


def test_redirects_are_followed(server: Server, bench: Bench) -> None:
    server.play("/real", gives())
    url = server.play("/w.pt", status(302, Location="/real"))
    assert bench.fetch(url, sha256=SHA).place == url


def test_an_endless_redirect_is_given_up(server: Server, bench: Bench) -> None:
    url = server.play("/w.pt", status(302, Location="/w.pt"))
    assert bench.refused(url) == nowhere(bench, f"{url}: Exceeded maximum allowed redirects.")


def test_bytes_are_written_as_they_come(server: Server, bench: Bench) -> None:
    """Some servers declare a .tar.gz to be a tar that is compressed on the way."""
    url = server.play("/x.tar.gz", status(200, DATA, Content_Encoding="gzip"))
    assert bench.fetch(url).sha256 == SHA


# Places in order


def test_the_checksum_decides_not_the_place(server: Server, bench: Bench) -> None:
    wrong, right = server.play("/a", gives(OTHER)), server.play("/b", gives())
    assert bench.fetch(wrong, right, sha256=SHA).place == right
    assert bench.destination.read_bytes() == DATA


def test_when_all_places_fail_each_says_why(server: Server, bench: Bench) -> None:
    a, b = server.play("/a", status(403)), server.play("/b", status(404))
    c, d = server.play("/c", gives(OTHER)), server.play("/d", gives(b"short"))
    text = bench.refused(a, b, c, d, "file:no/such.pt", sha256=SHA, bytes=len(DATA))
    assert text == nowhere(
        bench,
        f"{a}: HTTP 403",
        f"{b}: HTTP 404",
        f"{c}: sha256 {OTHER_SHA}, not {SHA} as the config says",
        f"{d}: its file has 5 bytes, not {len(DATA)}",
        "file:no/such.pt: no such file or folder",
    )
    assert len(server.requests) == 4  # 403, 404 and a wrong file are not asked for twice
    assert bench.files() == set()


def test_a_wrong_md5(server: Server, bench: Bench) -> None:
    url = server.play("/a", gives(OTHER))
    other = hashlib.md5(OTHER).hexdigest()
    text = bench.refused(url, md5=MD5)
    assert text == nowhere(bench, f"{url}: md5 {other}, not {MD5} as the config says")
    assert not bench.lock.path.exists()


def test_only_an_md5_is_known(server: Server, bench: Bench) -> None:
    manifest = bench.fetch(server.play("/a", gives()), md5=MD5)
    locked = bench.lock.get("w")
    assert locked is not None and locked.sha256 == manifest.sha256 == SHA


# What cannot be the file


def test_what_cannot_be_the_file_is_never_recorded(server: Server, bench: Bench) -> None:
    html = b"\n<!DOCTYPE html><title>Sign in</title>"
    empty, nothing = server.play("/a", gives(b"")), server.play("/b", status(204))
    disguised = server.play("/c", gives(html))
    accepted = server.play("/d", status(202, b"soon"))
    pointer = server.play("/e", gives(b"version https://git-lfs.github.com/spec/v1\noid ..."))
    assert bench.refused(empty, nothing, disguised, accepted, pointer) == nowhere(
        bench,
        f"{empty}: an empty file",
        f"{nothing}: HTTP 204, which brings no file",
        f"{disguised}: a web page ('Sign in') came, not the file",
        f"{accepted}: HTTP 202, which brings no file",
        f"{pointer}: a Git LFS pointer, not the file that it stands for",
    )
    assert not bench.lock.path.exists()
    assert bench.files() == set()
    assert bench.fetch(empty, server.play("/w.pt", gives())).sha256 == SHA


def test_what_is_refused_when_it_is_looked_at_is_never_recorded(
    server: Server, bench: Bench, tmp_path: Path
) -> None:
    def objection(path: Path) -> str | None:
        return "does not open" if path.read_bytes() == OTHER else None

    a, b = server.play("/a", gives(OTHER)), server.play("/b", gives())
    assert bench.refused(a, objection=objection) == nowhere(bench, f"{a}: does not open")
    (tmp_path / "mine.pt").write_bytes(OTHER)
    text = bench.refused(f"file:{tmp_path}/mine.pt", sha256=OTHER_SHA, objection=objection)
    assert f"(file:{tmp_path}/mine.pt: does not open)" in text
    assert not bench.lock.path.exists()
    assert bench.fetch(a, b, objection=objection).place == b
    bench.destination.write_bytes(OTHER)
    assert "not the right file: " in bench.refused(a, objection=objection)


def test_from_https_nothing_leads_to_plain_http(
    drive: Server, server: Server, bench: Bench, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`drive` answers for any host that its certificate names."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    plain = server.play("/w.pt", gives())
    drive.play("/direct", gives())
    drive.play("/secure", status(302, Location="https://docs.google.com/direct"))
    drive.play("/downgrade", status(302, Location=plain))
    drive.play("/twice", status(302, Location="/downgrade"))
    host = "https://drive.google.com"
    for path in ("/downgrade", "/twice"):
        reason = f"it redirects to plain http ({plain}), which anyone may change"
        assert bench.refused(host + path) == nowhere(bench, f"{host}{path}: {reason}")
    assert server.requests == [] and not bench.lock.path.exists()
    assert bench.fetch(f"{host}/secure").sha256 == SHA


# What the environment names


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        (
            "ALL_PROXY",
            "socks5://me:secret@127.0.0.1:1",
            "ALL_PROXY=socks5://...@127.0.0.1:1 is a SOCKS proxy, which needs a package: "
            "pip install socksio; or name an http:// proxy, or unset it",
        ),
        (
            "HTTP_PROXY",
            "gopher://127.0.0.1:1",
            "HTTP_PROXY=gopher://127.0.0.1:1 is no proxy (Unknown scheme): write "
            "http://HOST:PORT, or unset it",
        ),
        (
            "https_proxy",
            "proxy:port",
            "https_proxy=proxy:port is no proxy (Invalid port: 'port'): write http://HOST:PORT, "
            "or unset it",
        ),
        (
            "NO_PROXY",
            "localhost,[::1]",
            "NO_PROXY='localhost,[::1]' cannot be read (Invalid port: ':1]'): name hosts and "
            "domains, an IPv6 address without brackets, or unset it",
        ),
        (
            "SSL_CERT_FILE",
            "/no/such.pem",
            "SSL_CERT_FILE=/no/such.pem: there is no such file: correct it, or unset it",
        ),
        (
            "REQUESTS_CA_BUNDLE",
            "/no/such.pem",
            "REQUESTS_CA_BUNDLE=/no/such.pem: there is no such file: correct it, or unset it",
        ),
    ],
)
def test_what_no_connection_can_use_is_said_at_once(
    server: Server,
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: str,
    reason: str,
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda package: None)
    monkeypatch.setenv(name, value)
    url = server.play("/w.pt", gives())
    assert bench.refused(url) == nowhere(bench, f"{url}: {reason}")
    assert "trying again" not in bench.printed.getvalue()
    if name != "NO_PROXY":  # the hub's own client may read that one
        for place in (MAIN, DRIVE):
            assert bench.refused(place) == nowhere(bench, f"{parse_place(place)}: {reason}")


def test_certificates_that_are_none(
    server: Server, bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "x.pem").write_text("nothing")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "x.pem"))
    text = bench.refused(server.play("/w.pt", gives()))
    assert "SSL_CERT_FILE: no certificates to trust (" in text


def test_a_file_system_without_locks_is_one_line(
    server: Server, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    text = bench.refused(server.play("/w.pt", gives()))
    assert text.startswith(f"{bench.folder}: its file system takes no file locks (")


# Trust on first use


def test_the_first_download_is_held(server: Server, bench: Bench) -> None:
    url = server.play("/w.pt", gives())
    bench.fetch(url)
    assert json.loads(bench.lock.path.read_text()) == {
        "w": {"bytes": len(DATA), "place": url, "sha256": SHA}
    }

    bench.destination.unlink()
    server.play("/w.pt", gives(OTHER, etag='"two"'))
    text = bench.refused(url)
    held = f"{bench.lock.path} says (delete its entry 'w' if the new file is the right one)"
    assert text == nowhere(bench, f"{url}: sha256 {OTHER_SHA}, not {SHA} as {held}")
    assert not bench.destination.exists()


def test_a_checksum_in_the_config_stands_above_the_lock_file(server: Server, bench: Bench) -> None:
    url = server.play("/w.pt", gives(OTHER), gives())
    bench.fetch(url)
    bench.destination.unlink()
    assert bench.fetch(url, sha256=SHA).sha256 == SHA


# What is there already


def test_a_file_put_there_by_hand_is_used(bench: Bench) -> None:
    bench.folder.mkdir()
    bench.destination.write_bytes(DATA)
    manifest = bench.fetch("https://127.0.0.1:1/never-asked", sha256=SHA)
    assert manifest.place == f"file:{bench.destination}"


def test_a_file_put_there_by_hand_is_held_too(bench: Bench) -> None:
    bench.folder.mkdir()
    bench.destination.write_bytes(DATA)
    bench.fetch("https://127.0.0.1:1/never-asked")
    bench.destination.write_bytes(OTHER)
    assert bench.refused("https://127.0.0.1:1/never-asked") == (
        f"w: {bench.destination} is not the right file: sha256 {OTHER_SHA}, not {SHA} "
        f"as {bench.lock.path} says (delete its entry 'w' if the new file is the right one): "
        "delete it and rerun: it is downloaded again"
    )


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (DATA[:1000], f"1000 bytes, not {len(DATA)} as the config says"),
        (OTHER, f"sha256 {OTHER_SHA}, not {SHA} as the config says"),
    ],
)
def test_a_truncated_or_changed_file_is_said(
    server: Server, bench: Bench, data: bytes, reason: str
) -> None:
    url = server.play("/w.pt", gives())
    bench.fetch(url, sha256=SHA, bytes=len(DATA))
    bench.destination.write_bytes(data)
    assert bench.refused(url, sha256=SHA, bytes=len(DATA)) == (
        f"w: {bench.destination} is not the right file: {reason}: "
        "delete it and rerun: it is downloaded again"
    )
    bench.destination.unlink()
    assert bench.fetch(url, sha256=SHA).sha256 == SHA


# Local files and folders


def test_a_local_file_is_used_where_it_lies(bench: Bench, tmp_path: Path) -> None:
    mine = tmp_path / "mine.pt"
    mine.write_bytes(DATA)
    manifest = bench.fetch(f"file:{mine}", sha256=SHA)
    assert (manifest.path, manifest.place) == (str(mine), f"file:{mine}")
    assert not bench.folder.exists()  # nothing was copied


def test_a_local_file_without_a_checksum_is_not_recorded(bench: Bench, tmp_path: Path) -> None:
    mine = tmp_path / "mine.pt"
    mine.write_bytes(DATA)
    bench.fetch(f"file:{mine}")
    mine.write_bytes(OTHER)  # it is the user's to change
    assert bench.fetch(f"file:{mine}").sha256 == OTHER_SHA


def test_a_wrong_local_file_gives_way_to_the_next_place(
    server: Server, bench: Bench, tmp_path: Path
) -> None:
    mine = tmp_path / "mine.pt"
    mine.write_bytes(OTHER)
    url = server.play("/w.pt", gives())
    assert bench.fetch(f"file:{mine}", url, sha256=SHA).place == url


def test_a_local_file_that_is_missing(bench: Bench) -> None:
    assert bench.refused("file:no/such.pt") == (
        "w: no place gives it (file:no/such.pt: no such file or folder): put the right file there, "
        "or correct its section of the config"
    )


def test_a_local_folder(bench: Bench, tmp_path: Path) -> None:
    folder = tmp_path / "val"
    (folder / "n01").mkdir(parents=True)
    (folder / "n01" / "a.png").write_bytes(b"12345")
    manifest = bench.fetch(f"file:{folder}", md5=MD5)  # the md5 is that of the tar
    assert (manifest.kind, manifest.path) == ("folder", str(folder))
    assert (manifest.files, manifest.bytes) == (1, 5)


# Offline


def test_offline_nothing_is_asked(server: Server, bench: Bench, tmp_path: Path) -> None:
    url = server.play("/w.pt", gives())
    hub = f"hf://nobody/nothing@{COMMIT}/w.pt"
    assert bench.refused(url, hub, "gdrive://0123456789", offline=True) == (
        f"w: {bench.destination} is missing, and offline it cannot be fetched ({url}: not asked; "
        f"{hub}: not asked; gdrive://0123456789: not asked): put it there yourself, "
        "or run once without `offline`"
    )
    assert server.requests == []
    assert not bench.folder.exists()


def test_offline_what_is_there_is_used(server: Server, bench: Bench) -> None:
    url = server.play("/w.pt", gives())
    manifest = bench.fetch(url)
    bench.folder.chmod(0o555)  # a shared folder that others may only read
    assert bench.fetch(url, offline=True) == manifest
    bench.folder.chmod(0o755)
    assert len(server.requests) == 1


# Bad connections


def test_a_cut_connection_is_continued(server: Server, bench: Bench) -> None:
    url = server.play("/w.pt", gives(until=30_000), gives(until=70_000), gives())
    assert bench.fetch(url).sha256 == SHA
    assert server.ranges() == [None, "bytes=30000-", "bytes=70000-"]
    assert [request.headers.get("if-range") for request in server.requests[1:]] == ['"one"'] * 2
    assert "w: cut off after 30000 bytes" in bench.printed.getvalue()


def test_a_connection_that_is_cut_often_gets_there(server: Server, bench: Bench) -> None:
    cuts = [gives(until=end) for end in range(10_000, 100_000, 10_000)]
    assert len(cuts) > FAST.attempts
    assert bench.fetch(server.play("/w.pt", *cuts, gives())).sha256 == SHA


def test_a_stalled_connection_is_continued(server: Server, bench: Bench) -> None:
    url = server.play("/w.pt", gives(until=50_000, then=stall), gives())
    assert bench.fetch(url, sha256=SHA, patience=STALLS).sha256 == SHA
    assert server.ranges() == [None, "bytes=50000-"]
    assert "w: no byte for 0.5 s; trying again" in bench.printed.getvalue()


def test_a_server_that_only_stalls_is_left(server: Server, bench: Bench) -> None:
    bad, good = server.play("/a", stall), server.play("/b", gives())
    assert bench.fetch(bad, good, sha256=SHA, patience=STALLS).place == good
    assert bench.printed.getvalue().count("no byte for 0.5 s") == STALLS.attempts - 1


def test_nobody_listens(bench: Bench) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/w.pt"
        text = bench.refused(url)
    assert text == nowhere(bench, f"{url}: [Errno 111] Connection refused (3 attempts)")


def test_a_server_without_ranges_is_asked_from_the_start(server: Server, bench: Bench) -> None:
    url = server.play("/w.pt", gives(until=60_000, ranges=False), gives(ranges=False))
    assert bench.fetch(url, sha256=SHA).sha256 == SHA
    assert server.ranges() == [None, "bytes=60000-"]


def test_a_server_without_ranges_that_always_cuts_is_left(server: Server, bench: Bench) -> None:
    url = server.play("/w.pt", gives(until=60_000, ranges=False))
    assert "(3 attempts)" in bench.refused(url, sha256=SHA)
    assert len(server.requests) == FAST.attempts + 1  # the first one brought something


def test_the_file_changes_between_two_attempts(server: Server, bench: Bench) -> None:
    url = server.play("/w.pt", gives(OTHER, etag='"old"', until=60_000), gives(etag='"new"'))
    assert bench.fetch(url).sha256 == SHA


def test_a_date_serves_where_there_is_no_etag(server: Server, bench: Bench) -> None:
    steps = [
        gives(etag=None, modified=formatdate(1e9, usegmt=True), until=end) for end in (9, None)
    ]
    assert bench.fetch(server.play("/w.pt", *steps)).sha256 == SHA
    assert server.ranges() == [None, "bytes=9-"]


def test_nothing_is_continued_that_nothing_would_check(server: Server, bench: Bench) -> None:
    url = server.play("/w.pt", gives(OTHER, etag=None, until=60_000), gives(etag=None))
    assert bench.fetch(url).sha256 == SHA
    assert server.ranges() == [None, None]


def test_a_weak_etag_does_not_count(server: Server, bench: Bench) -> None:
    url = server.play("/w.pt", gives(etag='W/"1"', until=9), gives(etag='W/"1"'))
    assert bench.fetch(url).sha256 == SHA
    assert server.ranges() == [None, None]


def test_a_wrong_range_comes(server: Server, bench: Bench) -> None:
    def other_range(handler: Handler) -> None:
        headers = {"Content-Range": f"bytes 0-9/{len(DATA)}", "Content-Length": 10}
        handler.answer(206, headers, DATA[:10])

    url = server.play("/w.pt", gives(until=60_000), other_range, gives())
    assert bench.fetch(url, sha256=SHA).sha256 == SHA
    assert server.ranges() == [None, "bytes=60000-", None]


def test_it_claims_too_many_bytes(server: Server, bench: Bench) -> None:
    url = server.play("/w.pt", gives(claims=len(DATA) + 5))
    assert bench.fetch(url, sha256=SHA).sha256 == SHA  # the next answer says that it is whole


def test_it_always_claims_too_many_bytes(server: Server, bench: Bench) -> None:
    url = server.play("/w.pt", gives(claims=len(DATA) + 5, ranges=False))
    reason = bench.refused(url)
    assert reason.startswith(f"w: no place gives it ({url}: cut off after {len(DATA)} bytes: ")
    assert "(3 attempts)" in reason


def test_it_claims_too_few_bytes(server: Server, bench: Bench) -> None:
    url = server.play("/w.pt", gives(claims=1000))
    text = bench.refused(url, bytes=len(DATA))
    assert text == nowhere(bench, f"{url}: its file has 1000 bytes, not {len(DATA)}")
    found = hashlib.sha256(DATA[:1000]).hexdigest()
    text = bench.refused(url, sha256=SHA)
    assert text == nowhere(bench, f"{url}: sha256 {found}, not {SHA} as the config says")


def test_it_sends_without_end(server: Server, bench: Bench) -> None:
    def endless(handler: Handler) -> None:
        handler.answer(200, {})
        while not handler.server.released.is_set():
            handler.wfile.write(DATA)

    url = server.play("/w.pt", endless)
    text = bench.refused(url, bytes=len(DATA))
    assert text == nowhere(bench, f"{url}: it sends more than the {len(DATA)} bytes of the file")
    assert (bench.folder / "w.pt.part").stat().st_size == 0


@pytest.mark.parametrize("code", [408, 425, 429, 500, 502, 503, 504])
def test_passing_errors_are_tried_again(server: Server, bench: Bench, code: int) -> None:
    url = server.play("/w.pt", status(code), gives())
    assert bench.fetch(url, sha256=SHA).sha256 == SHA
    assert f"w: HTTP {code}; trying again in" in bench.printed.getvalue()


@pytest.mark.parametrize("code", [400, 401, 403, 404, 410, 451])
def test_lasting_errors_are_not(server: Server, bench: Bench, code: int) -> None:
    url = server.play("/w.pt", status(code))
    assert bench.refused(url) == nowhere(bench, f"{url}: HTTP {code}")
    assert len(server.requests) == 1


@pytest.mark.parametrize("code", [429, 503])
def test_retry_after_is_obeyed(server: Server, bench: Bench, code: int) -> None:
    url = server.play("/w.pt", status(code, Retry_After="1"), gives())
    began = time.monotonic()
    bench.fetch(url)
    assert time.monotonic() - began >= 1
    assert f"w: HTTP {code}; trying again in 1.0 s" in bench.printed.getvalue()


def test_a_very_long_retry_after_is_not_waited_for(server: Server, bench: Bench) -> None:
    later = formatdate(time.time() + 3600, usegmt=True)
    a, b = (
        server.play("/a", status(429, Retry_After="999")),
        server.play("/b", status(503, Retry_After=later)),
    )
    text = bench.refused(a, b)
    assert f"{a}: HTTP 429, and asks to wait 999 s; " in text
    assert re.search(r"HTTP 503, and asks to wait 3[56]\d\d s", text)


def test_a_web_page_is_not_the_file(server: Server, bench: Bench) -> None:
    a = server.play("/a", page("<html><head><title>\n Sign in </title>"))
    b = server.play("/b", page("<title>Google Drive - Quota exceeded</title>"))
    assert bench.refused(a, b) == nowhere(
        bench,
        f"{a}: a web page ('Sign in') came, not the file",
        f"{b}: its download quota is used up: try again in a day",
    )
    assert not bench.lock.path.exists()


def test_a_web_page_does_not_spoil_what_is_there(server: Server, bench: Bench) -> None:
    url = server.play("/w.pt", gives(until=60_000), page("<title>Sign in</title>"))
    bench.refused(url, sha256=SHA)
    server.play("/w.pt", gives())
    bench.fetch(url, sha256=SHA)
    assert server.ranges()[-1] == "bytes=60000-"


# Kills and twins

FETCH = """
import sys
from pathlib import Path
from genclass.sources import LockFile, Wanted, fetch
manifest = fetch(Wanted("w", sys.argv[2:], "MIT"), Path(sys.argv[1], "downloads", "w.pt"),
                 LockFile(Path(sys.argv[1], "config.lock.json")))
print(manifest)
"""


def start(folder: Path, *places: str, log: Path | None = None) -> subprocess.Popen[str]:
    with contextlib.ExitStack() as stack:
        return subprocess.Popen(
            [sys.executable, "-c", FETCH, folder, *places],
            stdout=subprocess.PIPE,
            stderr=stack.enter_context(log.open("w")) if log else subprocess.PIPE,
            text=True,
        )


def kill_when_begun(process: subprocess.Popen[str], pattern: str, folder: Path) -> int:
    """Kill it once some bytes are there; returns how many it leaves."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and process.poll() is None:
        if any(path.stat().st_size >= 8192 for path in folder.glob(pattern)):
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    _, err = process.communicate()
    assert process.returncode == -signal.SIGKILL, err
    return next(folder.glob(pattern)).stat().st_size


def test_a_killed_download_continues(server: Server, bench: Bench, tmp_path: Path) -> None:
    url = server.play("/w.pt", slowly(DATA, 0.1), gives())
    there = kill_when_begun(start(tmp_path, url), "w.pt.part", bench.folder)
    assert 8192 <= there < len(DATA)
    assert bench.files() == {"w.pt.part", "w.pt.part.json"}

    assert bench.fetch(url).sha256 == SHA
    assert server.ranges() == [None, f"bytes={there}-"]
    assert server.requests[1].headers["if-range"] == '"one"'
    assert bench.files() == {"w.pt", "w.pt.origin.json"}


def test_a_download_continues_at_another_place(server: Server, bench: Bench) -> None:
    """The checksum is known: the bytes of one place are as good as those of another."""
    a = server.play("/a", gives(until=60_000), status(404))
    b = server.play("/b", gives(etag='"other"'))
    assert bench.fetch(a, b, sha256=SHA).place == b
    assert server.ranges()[-1] == "bytes=60000-"
    assert "if-range" not in server.requests[-1].headers


def test_a_wrong_beginning_is_thrown_away(server: Server, bench: Bench) -> None:
    a = server.play("/a", gives(OTHER, until=60_000), status(404))
    b = server.play("/b", gives())
    assert bench.fetch(a, b, sha256=SHA).place == b
    assert server.ranges()[-2:] == ["bytes=60000-", None]
    assert "w: the continued file is wrong; from the start" in bench.printed.getvalue()


def test_without_a_checksum_each_place_begins_anew(server: Server, bench: Bench) -> None:
    a = server.play("/a", gives(OTHER, until=60_000), status(404))
    b = server.play("/b", gives())
    assert bench.fetch(a, b).sha256 == SHA
    assert server.ranges()[-1] is None


def test_a_kill_between_the_last_byte_and_the_name(server: Server, bench: Bench) -> None:
    url = server.play("/w.pt", gives())
    bench.folder.mkdir()
    (bench.folder / "w.pt.part").write_bytes(DATA)
    assert bench.fetch(url, sha256=SHA).sha256 == SHA
    assert server.ranges() == [f"bytes={len(DATA)}-"]  # answered with 416
    bench.destination.rename(bench.folder / "w.pt.part")
    assert bench.fetch(url, sha256=SHA, bytes=len(DATA)).sha256 == SHA
    assert len(server.requests) == 1


def test_a_part_that_is_too_long_is_thrown_away(server: Server, bench: Bench) -> None:
    url = server.play("/w.pt", gives())
    bench.folder.mkdir()
    (bench.folder / "w.pt.part").write_bytes(DATA + b"more")
    assert bench.fetch(url, sha256=SHA).sha256 == SHA


def test_two_at_once_download_once(server: Server, bench: Bench, tmp_path: Path) -> None:
    def pause(handler: Handler) -> None:
        handler.server.released.wait(30)
        handler.wfile.write(DATA[50_000:])

    url = server.play("/w.pt", gives(until=50_000, then=pause))
    logs = [tmp_path / "0.log", tmp_path / "1.log"]
    processes = [start(tmp_path, url, log=log) for log in logs]
    waiting = "w.pt: another run is writing it; waiting"
    deadline = time.monotonic() + 30
    while not any(log.exists() and waiting in log.read_text() for log in logs):
        assert time.monotonic() < deadline, [log.read_text() for log in logs]
        time.sleep(0.01)
    server.released.set()
    outputs = [process.communicate()[0] for process in processes]
    assert outputs[0] == outputs[1] != "", [log.read_text() for log in logs]
    assert len(server.requests) == 1
    assert sum(waiting in log.read_text() for log in logs) == 1
    assert bench.destination.read_bytes() == DATA


# Full disks, and folders that refuse


def test_a_disk_that_is_too_small_is_known_before(server: Server, bench: Bench) -> None:
    size = 10**16
    url = server.play("/w.pt", gives(claims=size))
    text = bench.refused(url, "file:other")
    pattern = rf"w: no space left in {bench.folder} \((\d+) more bytes are needed\): free some .*"
    match = re.fullmatch(pattern, text)
    assert match is not None and 0 < int(match[1]) < size, text


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_disk_that_fills_up(server: Server, bench: Bench) -> None:
    def of_unknown_length(handler: Handler) -> None:
        handler.answer(200, {"ETag": '"one"'}, DATA)

    url = server.play("/w.pt", of_unknown_length, gives())
    bench.folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(bench.folder)]
    if subprocess.run(mount, check=False).returncode != 0:
        pytest.skip("cannot mount a small disk here")
    try:
        assert bench.refused(url, sha256=SHA) == (
            f"w: cannot download: no space left in {bench.folder}: "
            "free some there and rerun, it continues"
        )
        there = (bench.folder / "w.pt.part").stat().st_size
        assert there > 8192
        bigger = ["mount", "-o", "remount,size=1m", str(bench.folder)]
        subprocess.run(bigger, check=True)
        assert bench.fetch(url, sha256=SHA).sha256 == SHA
        assert server.ranges() == [None, f"bytes={there}-"]
    finally:
        subprocess.run(["umount", str(bench.folder)], check=True)


def test_a_file_in_place_of_the_folder(server: Server, bench: Bench) -> None:
    bench.folder.write_bytes(b"")
    text = bench.refused(server.play("/w.pt", gives()))
    assert text == f"w: cannot download: {bench.folder}: File exists"


# What it shows


def test_a_log_gets_lines_now_and_then(server: Server, bench: Bench) -> None:
    url = server.play("/w.pt", slowly(DATA, 0.02))
    printed = io.StringIO()
    fetch(
        Wanted("w", [url], "MIT"),
        bench.destination,
        bench.lock,
        progress=Progress(printed, every=0.1),
    )
    lines = printed.getvalue().splitlines()
    assert 2 <= len(lines) <= 8
    pattern = r"w: 0\.[01] MB of 0\.1 MB \(\d+ %\), \d+\.\d MB/s"
    assert all(re.fullmatch(pattern, line) for line in lines), lines


def test_other_things_are_counted_too() -> None:
    printed = io.StringIO()
    progress = Progress(printed, every=0)
    for done in (1, 30):
        progress.update("prepare val", done, 50, "images")
    assert re.fullmatch(
        r"prepare val: 1 images of 50 images \(2 %\), \d+ images/s\n"
        r"prepare val: 30 images of 50 images \(60 %\), \d+ images/s\n",
        printed.getvalue(),
    )


def test_a_terminal_gets_a_bar(server: Server, bench: Bench) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    url = server.play("/w.pt", gives(until=50_000), gives())
    fetch(
        Wanted("w", [url], "MIT"),
        bench.destination,
        bench.lock,
        progress=Progress(terminal),
        patience=FAST,
    )
    shown = terminal.getvalue()
    assert "w: 100%" in shown and "102k/102k" in shown, shown
    assert "w: cut off after 50000 bytes" in shown


# Hugging Face


class Hub:
    """The part of the hub that gives files: `resolve` answers with a redirect to a second host."""

    def __init__(self, hub: Server, cdn: Server) -> None:
        self.hub, self.cdn = hub, cdn
        self.play()

    def play(self, data: bytes = DATA, *cdn_steps: Step, sha256: str | None = None) -> None:
        digest = hashlib.sha256(data).hexdigest() if sha256 is None else sha256
        location = self.cdn.play("/blob", *(cdn_steps or (gives(data),)))
        answer = status(
            302,
            X_Repo_Commit=COMMIT,
            X_Linked_Etag=f'"{digest}"',
            X_Linked_Size=str(len(data)),
            Location=f"{location}?signed=yes",
        )
        for revision in ("main", COMMIT):
            self.hub.play(f"/owner/repo/resolve/{revision}/sub/w.pt", answer)
            self.hub.play(f"/datasets/owner/repo/resolve/{revision}/sub/w.pt", answer)


@pytest.fixture
def hub(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    cdn = Server()
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    yield Hub(server, cdn)
    cdn.stop()


MAIN = "hf://owner/repo@main/sub/w.pt"
PINNED = f"hf://owner/repo@{COMMIT}/sub/w.pt"


def test_the_hub_gives_a_file_and_its_commit(hub: Hub, bench: Bench) -> None:
    manifest = bench.fetch(MAIN)
    assert (manifest.place, manifest.sha256) == (PINNED, SHA)
    assert bench.destination.read_bytes() == DATA
    assert all(r.headers["authorization"] == "Bearer hf_secret" for r in hub.hub.requests)
    assert [r.path for r in hub.cdn.requests] == ["/blob?signed=yes"]
    assert "authorization" not in hub.cdn.requests[0].headers  # the token stays at the hub
    locked = bench.lock.get("w")
    assert locked is not None and locked.place == PINNED
    assert bench.fetch(MAIN) == manifest  # without asking again


def test_a_pinned_revision(hub: Hub, bench: Bench) -> None:
    assert bench.fetch(PINNED, sha256=SHA).place == PINNED
    assert all(f"/resolve/{COMMIT}/" in request.path for request in hub.hub.requests)


def test_a_repository_of_datasets(hub: Hub, bench: Bench) -> None:
    place = "hf://datasets/owner/repo/sub/w.pt"
    assert bench.fetch(place).place == f"hf://datasets/owner/repo@{COMMIT}/sub/w.pt"
    assert all(request.path.startswith("/datasets/owner/repo/") for request in hub.hub.requests)


def test_a_small_file_comes_from_the_hub_itself(hub: Hub, bench: Bench) -> None:
    def small(handler: Handler) -> None:
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{"b" * 40}"', "Content-Length": len(DATA)}
        handler.answer(200, headers, DATA)

    for revision in ("main", COMMIT):
        hub.hub.play(f"/owner/repo/resolve/{revision}/sub/w.pt", small)
    assert bench.fetch(MAIN).sha256 == SHA


def test_a_wrong_pin_is_known_before_the_download(hub: Hub, bench: Bench) -> None:
    reason = f"{MAIN}: its file has sha256 {SHA}, not {OTHER_SHA} as the config says"
    assert bench.refused(MAIN, sha256=OTHER_SHA) == nowhere(bench, reason)
    reason = f"{MAIN}: its file has {len(DATA)} bytes, not 5"
    assert bench.refused(MAIN, bytes=5) == nowhere(bench, reason)
    assert hub.cdn.requests == []


def test_what_the_hub_announces_is_checked(hub: Hub, bench: Bench) -> None:
    hub.play(DATA, gives(OTHER))
    reason = f"{MAIN}: sha256 {OTHER_SHA}, not {SHA} as the hub says"
    assert bench.refused(MAIN) == nowhere(bench, reason)
    assert not bench.lock.path.exists()


def test_a_killed_download_from_the_hub_continues(hub: Hub, bench: Bench, tmp_path: Path) -> None:
    hub.play(DATA, slowly(DATA, 0.1), gives())
    there = kill_when_begun(start(tmp_path, MAIN), "w.pt.part", bench.folder)
    assert bench.fetch(MAIN).place == PINNED
    assert hub.cdn.ranges() == [None, f"bytes={there}-"]


def test_main_moves_while_a_download_is_unfinished(hub: Hub, bench: Bench) -> None:
    hub.play(OTHER, gives(OTHER, until=60_000), status(404))
    bench.refused(MAIN)
    hub.play(DATA)
    assert bench.fetch(MAIN).sha256 == SHA


def test_the_first_commit_is_held_with_its_checksum(hub: Hub, bench: Bench) -> None:
    bench.fetch(MAIN)
    bench.destination.unlink()
    moved_on = status(404, X_Error_Code="EntryNotFound")
    hub.hub.play("/owner/repo/resolve/main/sub/w.pt", moved_on)
    assert bench.fetch(MAIN).place == PINNED


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (
            status(403, X_Error_Code="GatedRepo"),
            "gated: accept its licence at {page} and set HF_TOKEN",
        ),
        (
            status(401, X_Error_Code="RepoNotFound"),
            "no repository, or a gated one: check {page}, accept its licence there if it has one "
            "and set HF_TOKEN",
        ),
        (status(404, X_Error_Code="RevisionNotFound"), "no revision 'main' at {page}"),
        (status(404, X_Error_Code="EntryNotFound"), "no file 'sub/w.pt' at {page}"),
        (
            status(401, X_Error_Message="Invalid credentials in Authorization header"),
            "HTTP 401: the token in HF_TOKEN is not valid",
        ),
        (status(403), "HTTP 403"),
        (status(503), "HTTP 503 (3 attempts)"),
        (status(200), "{hub} does not answer like a hub: check HF_ENDPOINT and the proxy"),
    ],
)
def test_what_the_hub_refuses_is_said(hub: Hub, bench: Bench, answer: Step, reason: str) -> None:
    hub.hub.play("/owner/repo/resolve/main/sub/w.pt", answer)
    reason = reason.format(page=f"{hub.hub.url}/owner/repo", hub=hub.hub.url)
    assert bench.refused(MAIN) == nowhere(bench, f"{MAIN}: {reason}")


def lists(hub: Hub, *paths: str, commit: str = COMMIT) -> None:
    files = [
        {"rfilename": path, "size": len(DATA), "blobId": "b" * 40}
        | ({"lfs": {"size": len(DATA), "sha256": SHA, "pointerSize": 9}} if "w" in path else {})
        for path in paths
    ]
    body = json.dumps({"id": "owner/repo", "modelId": "owner/repo", "sha": commit,
                       "siblings": files, "private": False, "tags": [], "downloads": 0,
                       "likes": 0}).encode()  # fmt: skip
    answer = status(200, body, Content_Type="application/json")
    for revision in ("main", commit):
        for kind in ("models", "datasets"):
            hub.hub.play(f"/api/{kind}/owner/repo/revision/{revision}", answer)


def test_a_pattern_means_the_one_file_that_fits(hub: Hub, bench: Bench) -> None:
    lists(hub, "README.md", "sub/w.pt", "sub/v.pt")
    place = "hf://owner/repo/*w*.pt"
    assert bench.fetch(place).place == PINNED
    locked = bench.lock.get("w")
    assert locked is not None and locked.place == PINNED

    # From then on it is that file, whatever else comes to fit.
    bench.destination.unlink()
    lists(hub, "sub/w.pt", "sub/w-2.pt", commit="d" * 40)
    lists(hub, "sub/w.pt", "sub/w-2.pt")
    assert bench.fetch(place).place == PINNED


def test_a_pattern_that_fits_none_or_several_lists_what_is_there(hub: Hub, bench: Bench) -> None:
    lists(hub, "README.md", "sub/w.pt", "sub/w2.pt")
    place = "hf://owner/repo@main/nets/*.pt"
    assert bench.refused(place) == nowhere(
        bench,
        f"{place}: no file matches 'nets/*.pt'; there: README.md, sub/w.pt, sub/w2.pt: write a "
        "path that fits one",
    )
    place = "hf://owner/repo@main/*.pt"
    assert bench.refused(place) == nowhere(
        bench,
        f"{place}: 2 files match '*.pt'; there: sub/w.pt, sub/w2.pt: write a path that fits one",
    )
    assert not bench.lock.path.exists()


def test_a_repository_is_listed(hub: Hub) -> None:
    lists(hub, "sub/w.pt", "README.md", "other/x.pt")
    size = len(DATA)
    readme, other = Listed("README.md", size), Listed("other/x.pt", size)
    file = Listed("sub/w.pt", size, SHA)
    for text, expected in {
        "hf://owner/repo": [readme, other, file],
        "hf://owner/repo/": [readme, other, file],
        f"hf://owner/repo@{COMMIT}": [readme, other, file],
        "hf://datasets/owner/repo": [readme, other, file],
        "hf://owner/repo/*.pt": [other, file],
        "hf://owner/repo/sub": [file],
        "hf://owner/repo/README.md": [readme],
    }.items():
        assert list_place(text, FAST) == expected


def test_what_cannot_be_listed_is_one_line(hub: Hub, tmp_path: Path) -> None:
    def refused(text: str) -> str:
        with pytest.raises(GenclassError) as error:
            list_place(text, FAST)
        return str(error.value)

    lists(hub, "sub/w.pt")
    assert refused("hf://owner/repo/x*") == (
        "hf://owner/repo/x*: nothing fits 'x*'; there: sub/w.pt"
    )
    assert refused("https://a.org/x").startswith("https://a.org/x: not to be listed: write hf://")
    hub.hub.play("/api/models/owner/repo/revision/main", status(404, X_Error_Code="RepoNotFound"))
    assert refused("hf://owner/repo") == (
        f"hf://owner/repo: no repository, or a gated one: check {hub.hub.url}/owner/repo, accept "
        "its licence there if it has one and set HF_TOKEN"
    )
    hub.hub.play("/api/models/owner/repo/revision/main", page("<title>Proxy</title>"))
    assert "does not answer like a hub" in refused("hf://owner/repo")
    (tmp_path / "a").mkdir()
    assert refused(f"file:{tmp_path}/a") == f"file:{tmp_path}/a: there is no file"
    (tmp_path / "a" / "x.pt").write_bytes(b"x")
    assert list_place(f"file:{tmp_path}") == [Listed("a/x.pt", None)]


def test_a_token_with_curly_quotes_is_said_and_not_shown(
    hub: Hub, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "“hf_secret”")
    text = bench.refused(MAIN)
    assert "the token in HF_TOKEN (or of hf auth login) holds '“', '”': set it anew" in text
    assert "secret" not in text and hub.hub.requests == []


def test_an_endpoint_without_its_scheme(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "hub.example.org")
    assert bench.refused(MAIN) == nowhere(
        bench, f"{MAIN}: HF_ENDPOINT=hub.example.org is no address: write https://hub.example.org"
    )
    assert bench.printed.getvalue() == ""


def test_a_hub_that_is_away_for_a_moment(hub: Hub, bench: Bench) -> None:
    path = "/owner/repo/resolve/main/sub/w.pt"
    again = hub.hub.scripts[path]
    hub.hub.play(path, status(429, Retry_After="0"), stall, status(502), *again)
    assert bench.fetch(MAIN, patience=replace(STALLS, attempts=5)).sha256 == SHA
    for reason in ("HTTP 429", "HTTP 502"):
        assert f"w: {reason}; trying again" in bench.printed.getvalue()


def cache(home: Path, data: bytes) -> Path:
    """What `hf download` leaves behind."""
    repo = home / "hub" / "models--owner--repo"
    path = repo / "snapshots" / COMMIT / "sub" / "w.pt"
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(COMMIT)
    return path


def test_hf_hub_offline_is_honoured(hub: Hub, tmp_path: Path) -> None:
    """The hub is not asked, its cache is read, and other places stay in reach."""
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(tmp_path / "home"),
    }

    def run(folder: str, *places: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", FETCH, tmp_path / folder, *places],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    nothing = run("a", MAIN)
    assert f"{MAIN}: not asked, as HF_HUB_OFFLINE is set" in nothing.stderr
    url = hub.cdn.play("/w.pt", gives())
    assert f"place='{url}'" in run("b", MAIN, url).stdout
    cached = cache(tmp_path / "home", DATA)
    found = run("c", MAIN).stdout
    assert f"path='{cached}', place='{PINNED}'" in found
    assert hub.hub.requests == []


@pytest.mark.parametrize("place", [MAIN, PINNED])
def test_offline_the_cache_of_the_hub_is_read(
    hub: Hub, bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "home" / "hub"))
    path = cache(tmp_path / "home", DATA)
    manifest = bench.fetch(place, sha256=SHA, offline=True)
    assert (manifest.path, manifest.place) == (str(path), PINNED)
    text = bench.refused(place, sha256=OTHER_SHA, offline=True)
    assert f"{place}: sha256 {SHA}, not {OTHER_SHA} as the config says" in text
    assert hub.hub.requests == []


# Google Drive: gdown itself runs, and takes this machine for Google's: a proxy leads all of its
# connections to a server here, whose certificate it is told to trust.

FILE_ID, FOLDER_ID = "1" + "f" * 32, "1" + "d" * 32
DRIVE = f"gdrive://{FILE_ID}"
BIG = DATA * 20
BIG_SHA = hashlib.sha256(BIG).hexdigest()


class Tunnel(BaseHTTPRequestHandler):
    """A proxy that leads every CONNECT to one local port."""

    target = 0

    def do_CONNECT(self) -> None:
        with socket.create_connection(("127.0.0.1", self.target)) as other:
            self.send_response(200)
            self.end_headers()
            pair = [self.connection, other]
            with contextlib.suppress(OSError):
                while True:
                    for side in select.select(pair, [], [])[0]:
                        data = side.recv(65536)
                        if not data:
                            return
                        pair[side is self.connection].sendall(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a certificate for Google's names, in one file."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("certificate")
    names = "DNS:drive.google.com,DNS:drive.usercontent.google.com,DNS:docs.google.com"
    key, path = folder / "key.pem", folder / "certificate.pem"
    curve, subject = "ec_paramgen_curve:prime256v1", "/CN=drive.google.com"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", curve),
            *("-subj", subject, "-days", "2", "-addext", f"subjectAltName={names}"),
            *("-keyout", str(key), "-out", str(path)),
        ],
        check=True,
        capture_output=True,
    )
    path.write_bytes(path.read_bytes() + key.read_bytes())
    return path


@pytest.fixture
def drive(certificate: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    server = Server()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    tunnel = ThreadingHTTPServer(
        ("127.0.0.1", 0), type("ToDrive", (Tunnel,), {"target": server.server_port})
    )
    tunnel.daemon_threads = True
    threading.Thread(target=tunnel.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{tunnel.server_port}")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    cookies = tmp_path / "home" / "cookies.txt"
    monkeypatch.setattr(
        importlib.import_module("gdown.download"), "DEFAULT_COOKIES_FILE", str(cookies)
    )
    yield server
    server.stop()
    tunnel.shutdown()
    tunnel.server_close()


def plays(drive: Server, *steps: Step) -> None:
    """A large file: Drive asks to confirm that it was not scanned, then gives it."""
    inputs = "".join(
        f'<input type="hidden" name="{name}" value="{value}">'
        for name, value in (("id", FILE_ID), ("export", "download"), ("confirm", "t"))
    )
    action = "https://drive.usercontent.google.com/download"
    drive.play("/uc", page(f'<form id="download-form" action="{action}">{inputs}</form>'))
    drive.play("/download", *steps)


def attached(step: Step) -> Step:
    """As Drive sends files."""

    def with_name(handler: Handler) -> None:
        answer = handler.answer

        def named(code: int, headers: dict[str, Any], body: bytes = b"") -> None:
            answer(code, {"Content-Disposition": 'attachment; filename="w.pt"', **headers}, body)

        handler.answer = named  # type: ignore[method-assign]
        step(handler)

    return with_name


def test_drive_gives_a_file(drive: Server, bench: Bench) -> None:
    plays(drive, attached(gives()))
    manifest = bench.fetch(DRIVE, sha256=SHA, bytes=len(DATA))
    assert (manifest.place, manifest.sha256) == (DRIVE, SHA)
    assert bench.files() == {"w.pt", "w.pt.origin.json"}
    query = parse_qs(urlsplit(drive.requests[-1].path).query)
    assert query == {"id": [FILE_ID], "export": ["download"], "confirm": ["t"]}


def test_drive_gives_a_file_of_a_folder(drive: Server, bench: Bench) -> None:
    inner = "1" + "e" * 32

    def listing(handler: Handler) -> None:
        asked = parse_qs(urlsplit(handler.path).query)["id"][0]
        title, target, text = {
            FOLDER_ID: ("MeanFlow", f"drive/folders/{inner}", "ImageNet256"),
            inner: ("ImageNet256", f"file/d/{FILE_ID}/view", "sit.pt"),
        }[asked]
        link = f'<a href="https://drive.google.com/{target}">{text}</a>'
        page(f"<title>{title}</title>{link}")(handler)

    drive.play("/embeddedfolderview", listing)
    plays(drive, attached(gives()))
    place = f"gdrive://{FOLDER_ID}/ImageNet256/sit.pt"
    assert bench.fetch(place, sha256=SHA).place == place

    bench.destination.unlink()
    place = f"gdrive://{FOLDER_ID}/sit.pt"
    reason = f"{place}: no 'sit.pt' in the folder, which has ImageNet256/sit.pt"
    assert bench.refused(place, sha256=SHA) == nowhere(bench, reason)


def test_drive_says_that_the_quota_is_used_up(drive: Server, bench: Bench) -> None:
    text = "Too many users have viewed or downloaded this file recently."
    drive.play("/uc", page(f'<p class="uc-error-subcaption">{text}</p>'))
    reason = f"{DRIVE}: its download quota is used up: try again in a day"
    assert bench.refused(DRIVE) == nowhere(bench, reason)


def test_drive_gives_no_link(drive: Server, bench: Bench) -> None:
    drive.play("/uc", page("<title>Google Drive - Access Denied</title>"))
    drive.play("/embeddedfolderview", status(404))
    folder = f"gdrive://{FOLDER_ID}/w.pt"
    reason = "Drive gives no link to it: it is private, gone, or asked for too often"
    expected = nowhere(bench, f"{DRIVE}: {reason}", f"{folder}: {reason}")
    assert bench.refused(DRIVE, folder) == expected


def continued_at(drive: Server) -> int:
    """Where the last download of the file went on: gdown keeps pieces of half a megabyte."""
    asked = [r.headers.get("range") for r in drive.requests if r.path.startswith("/download")][-1]
    assert asked is not None
    return int(asked.removeprefix("bytes=").removesuffix("-"))


def test_a_cut_download_from_drive_continues(drive: Server, bench: Bench) -> None:
    plays(drive, attached(gives(BIG, until=1_500_000)), attached(gives(BIG)))
    assert bench.fetch(DRIVE, sha256=BIG_SHA).sha256 == BIG_SHA
    assert continued_at(drive) == 1 << 20


def test_what_drive_had_begun_does_not_excuse_another_place(server: Server, bench: Bench) -> None:
    bench.folder.mkdir()
    (bench.folder / "w.pt.gdriveabcdefgh.part").write_bytes(b"the beginning")
    wrong, right = server.play("/wrong", gives(OTHER)), server.play("/right", gives())
    assert bench.fetch(wrong, right, sha256=SHA).place == right
    assert len(server.requests) <= 3


def test_a_stalled_download_from_drive_continues(drive: Server, bench: Bench) -> None:
    plays(drive, attached(gives(BIG, until=1_500_000, then=stall)), attached(gives(BIG)))
    assert bench.fetch(DRIVE, sha256=BIG_SHA, patience=STALLS).sha256 == BIG_SHA
    assert continued_at(drive) == 1 << 20


def test_a_killed_download_from_drive_continues(
    drive: Server, bench: Bench, tmp_path: Path
) -> None:
    plays(drive, attached(slowly(BIG, 0.1, piece=1 << 18)), attached(gives(BIG)))
    there = kill_when_begun(start(tmp_path, DRIVE), "w.pt.gdrive*.part", bench.folder)
    assert bench.fetch(DRIVE, sha256=BIG_SHA).sha256 == BIG_SHA
    assert continued_at(drive) == there > 0
    assert bench.files() == {"w.pt", "w.pt.origin.json"}


def test_a_beginning_that_drive_does_not_continue_is_begun_again(
    drive: Server, bench: Bench
) -> None:
    bench.folder.mkdir()
    (bench.folder / "w.pt.gdriveabcdefgh.part").write_bytes(DATA + b"more")
    plays(drive, attached(gives()))
    assert bench.fetch(DRIVE, sha256=SHA).sha256 == SHA


def test_a_wrong_beginning_from_drive_is_thrown_away(drive: Server, bench: Bench) -> None:
    bench.folder.mkdir()
    (bench.folder / "w.pt.gdriveabcdefgh.part").write_bytes(OTHER[:60_000])
    (bench.folder / "w.pt.gdriveijklmnop.part").write_bytes(OTHER[:50_000])
    plays(drive, attached(gives()))
    assert bench.fetch(DRIVE, sha256=SHA).sha256 == SHA
    assert "w: the continued file is wrong; from the start" in bench.printed.getvalue()
    assert bench.files() == {"w.pt", "w.pt.origin.json"}


def test_drive_answers_with_errors(drive: Server, bench: Bench) -> None:
    plays(drive, status(503, Content_Type="x"), attached(gives()))
    drive.play("/uc", attached(status(503, Content_Type="x")), attached(gives()))
    assert bench.fetch(DRIVE, sha256=SHA).sha256 == SHA
    assert "w: HTTP 503; trying again" in bench.printed.getvalue()


def test_drive_has_a_file_of_another_size(drive: Server, bench: Bench) -> None:
    plays(drive, attached(gives(b"short" * 10)))
    reason = f"{DRIVE}: its file has 50 bytes, not {len(DATA)}"
    assert bench.refused(DRIVE, bytes=len(DATA)) == nowhere(bench, reason)


def test_drive_has_more_than_the_disk_holds(drive: Server, bench: Bench) -> None:
    plays(drive, attached(gives(BIG, claims=10**16)))
    assert bench.refused(DRIVE).startswith(f"w: no space left in {bench.folder} (")


def test_drive_is_out_of_reach(
    drive: Server, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{free.getsockname()[1]}")
        reason = f"{DRIVE}: ProxyError after 0 bytes (3 attempts)"
        assert bench.refused(DRIVE) == nowhere(bench, reason)
