"""The one HTTP download that continues after a cut or a kill."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

from genclass.files import require_space
from genclass.sources.partial_file import PartialFile
from genclass.sources.patience import Patience, PlaceFailed, TryAgain, persist, refuse_status
from genclass.sources.progress import Progress
from genclass.sources.wrong_files import page_reason

_PROXIES = ("http_proxy", "https_proxy", "all_proxy")
_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


def new_client(headers: Mapping[str, str], timeout: float) -> httpx.Client:
    """A client that follows redirects, but not from https to plain http.

    Raises:
        PlaceFailed: the environment's proxies or certificates cannot be used.
    """
    check_environment()
    try:
        return httpx.Client(
            headers=headers,
            timeout=timeout,
            follow_redirects=True,
            event_hooks={"response": [_refuse_downgrade]},
        )
    except httpx.InvalidURL as error:  # the proxies themselves are right
        name, value = _variable("no_proxy")
        raise PlaceFailed(
            f"{name}={value!r} cannot be read ({error}): name hosts and domains, an IPv6 address "
            "without brackets, or unset it"
        ) from error
    except (OSError, ValueError) as error:
        name = next((name for name in _CERTIFICATES if os.environ.get(name)), "the environment")
        raise PlaceFailed(f"{name}: no certificates to trust ({error}): correct it") from error


def check_environment() -> None:
    """Raises PlaceFailed if a variable of the environment names what no connection can use."""
    for name in _CERTIFICATES:
        if (value := os.environ.get(name)) and not Path(value).exists():
            raise PlaceFailed(f"{name}={value}: there is no such file: correct it, or unset it")
    for lower in _PROXIES:
        name, value = _variable(lower)
        if not value:
            continue
        address = value if "://" in value else f"http://{value}"
        shown = re.sub(r"//[^/]*@", "//...@", value)  # without the password
        try:
            scheme = httpx.Proxy(address).url.scheme
        except (ValueError, httpx.InvalidURL) as error:
            reason = str(error).partition(" for ")[0]
            raise PlaceFailed(
                f"{name}={shown} is no proxy ({reason}): write http://HOST:PORT, or unset it"
            ) from error
        if scheme.startswith("socks") and importlib.util.find_spec("socksio") is None:
            raise PlaceFailed(
                f"{name}={shown} is a SOCKS proxy, which needs a package: pip install socksio; or "
                "name an http:// proxy, or unset it"
            )


def _variable(lower: str) -> tuple[str, str]:
    """The name and value of a variable that may be written in small or in capital letters."""
    for name in (lower, lower.upper()):
        if value := os.environ.get(name):
            return name, value
    return lower.upper(), ""


def _refuse_downgrade(response: httpx.Response) -> None:
    if response.has_redirect_location and response.url.scheme == "https":
        target = response.url.join(response.headers["Location"])
        if target.scheme == "http":
            raise PlaceFailed(f"it redirects to plain http ({target}), which anyone may change")


@dataclass(frozen=True)
class Transfer:
    """One file to bring from one address into a part."""

    name: str
    place: str
    url: str
    headers: Mapping[str, str]
    bytes: int | None  # if known beforehand
    held: bool  # a checksum is known: bytes from elsewhere may be continued, it will tell

    def run(self, part: PartialFile, patience: Patience, progress: Progress) -> None:
        """Bring the file, continuing what is in `part`.

        Raises:
            PlaceFailed: this address does not give it.
            GenclassError: the disk is too small.
        """
        # Compressed on the way, a length would count other bytes than those that are written.
        headers = {"User-Agent": "genclass", **self.headers, "Accept-Encoding": "identity"}
        with new_client(headers, patience.timeout) as client:
            persist(
                lambda: self._attempt(client, part, progress),
                name=self.name,
                patience=patience,
                progress=progress,
                reached=lambda: part.size,
            )

    def _attempt(self, client: httpx.Client, part: PartialFile, progress: Progress) -> None:
        offset, validator = part.size, part.validator(self.place)
        if offset and not (validator or self.held):
            offset = 0  # nothing would notice if the file had changed in between
        if offset and offset == self.bytes:
            return
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        if offset and validator:
            headers["If-Range"] = validator
        try:
            with client.stream("GET", self.url, headers=headers) as response:
                self._receive(response, offset, part, progress)
        except httpx.TimeoutException as error:
            raise TryAgain(f"no byte for {client.timeout.read:g} s") from error
        except (httpx.UnsupportedProtocol, httpx.TooManyRedirects, httpx.InvalidURL) as error:
            raise PlaceFailed(str(error)) from error
        except httpx.HTTPError as error:
            where = f"cut off after {part.size} bytes: " if part.size else ""
            raise TryAgain(where + (str(error) or type(error).__name__)) from error

    def _receive(
        self, response: httpx.Response, offset: int, part: PartialFile, progress: Progress
    ) -> None:
        content_range = response.headers.get("Content-Range", "")
        if response.status_code == 416:
            if content_range == f"bytes */{offset}":
                return  # it was whole already
            part.discard()
            raise TryAgain("HTTP 416: it cannot be continued")
        refuse_status(response.status_code, response.headers)
        if response.status_code not in (200, 203, 206):
            raise PlaceFailed(f"HTTP {response.status_code}, which brings no file")
        if response.headers.get("Content-Type", "").startswith("text/html"):
            raise PlaceFailed(page_reason(next(response.iter_text(1 << 16), "")))

        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", content_range)
        if response.status_code == 206 and (match is None or int(match[1]) != offset):
            part.discard()
            raise TryAgain("another range than the one asked for")
        if response.status_code == 206 and match is not None:
            total = None if match[2] == "*" else int(match[2])
        else:
            offset = 0  # the server ignores ranges, or the file is not the one we have a part of
            length = response.headers.get("Content-Length", "")
            total = int(length) if length.isdigit() else None
        if None not in (total, self.bytes) and total != self.bytes:
            raise PlaceFailed(f"its file has {total} bytes, not {self.bytes}")
        total = self.bytes if total is None else total
        if total is not None:
            require_space(self.name, part.path.parent, total - offset)
        if offset == 0:
            part.restart(self.place, _validator(response.headers))

        with part.path.open("r+b") as file:
            file.seek(offset)
            for chunk in response.iter_raw():
                file.write(chunk)
                file.flush()  # so that a kill loses nothing
                progress.update(self.name, file.tell(), total)
                if total is not None and file.tell() > total:
                    file.truncate(0)
                    raise PlaceFailed(f"it sends more than the {total} bytes of the file")
            if total is not None and file.tell() < total:
                raise TryAgain(f"cut off after {file.tell()} of {total} bytes")


def _validator(headers: httpx.Headers) -> str | None:
    etag = headers.get("ETag", "")
    return etag if etag and not etag.startswith("W/") else headers.get("Last-Modified")
