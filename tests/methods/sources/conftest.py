"""Pictures and files of pairs such as a user has, and a web on loopback to fetch them from."""

import ssl
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

CLASSES = ("frog", "ship")


def _jpeg(shade: int) -> bytes:
    buffer = BytesIO()
    Image.new("RGB", (12, 8), (shade % 256, 90, 30)).save(buffer, format="JPEG")
    return buffer.getvalue()


@pytest.fixture
def jpeg() -> Callable[[int], bytes]:
    """Return a function that encodes a picture of one shade."""
    return _jpeg


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Return a writer of parquet pairs; a column given by keyword replaces the usual one."""

    def write(name: str, count: int, prefix: str = "row", **replaced: Any) -> Path:
        usual = {
            "id": [f"{prefix}-{row}" for row in range(count)],
            "image": [_jpeg(row) for row in range(count)],
            "caption": [f"a photo of a {CLASSES[row % 2]}" for row in range(count)],
            "label": [CLASSES[row % 2] for row in range(count)],
        }
        columns = {key: value for key, value in (usual | replaced).items() if value is not None}
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), path)
        return path

    return write


@dataclass
class Page:
    """The answer of the loopback web at one address."""

    kind: str
    body: bytes = b""
    place: str = ""


class Web:
    """Plays the web on a port of 127.0.0.1, and records the requested paths."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.pages: dict[str, Page] = {}
        self.asked: list[str] = []
        self.stopped = Event()
        self._lock = Lock()
        self._counts: Counter[str] = Counter()
        self._server = _Server(("127.0.0.1", 0), partial(_Handler, self))
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def note(self, path: str) -> int:
        """Record a request and return how often its path was requested."""
        with self._lock:
            self.asked.append(path)
            self._counts[path] += 1
            return self._counts[path]

    def forget(self) -> None:
        """Forget the requested paths."""
        with self._lock:
            self.asked.clear()
            self._counts.clear()

    def stop(self) -> None:
        self.stopped.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, *_: object) -> None:
        """Clients that leave early are part of the play."""


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, web: Web, *arguments: Any) -> None:
        self.web = web
        super().__init__(*arguments)

    def log_message(self, *_: object) -> None:
        """Nothing is logged."""

    def do_GET(self) -> None:
        count = self.web.note(self.path)
        page = self.web.pages.get(self.path, Page("status", place="404"))
        getattr(self, f"_{page.kind}")(page, count)

    def _send(self, status: int, body: bytes, headers: Mapping[str, str] = {}) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _image(self, page: Page, _: int) -> None:
        self._send(200, page.body)

    def _status(self, page: Page, _: int) -> None:
        self._send(int(page.place), b"no")

    def _recovering(self, page: Page, count: int) -> None:
        self._send(500, b"busy") if count <= 2 else self._send(200, page.body)

    def _redirect(self, page: Page, _: int) -> None:
        self._send(302, b"", {"Location": page.place})

    def _short(self, page: Page, _: int) -> None:
        self._send(200, page.body, {"Content-Length": str(len(page.body) + 100)})

    def _silent(self, _page: Page, _: int) -> None:
        self.web.stopped.wait(5)

    def _dripping(self, _page: Page, _: int) -> None:
        self._send(200, b"", {"Content-Length": "1000"})
        while not self.web.stopped.wait(0.1):
            self.wfile.write(b"x")

    def _dripping_headers(self, _page: Page, _: int) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while not self.web.stopped.wait(0.1):
            self.wfile.write(b"x")

    def _endless(self, _page: Page, _: int) -> None:
        self.send_response(200)
        self.end_headers()
        while not self.web.stopped.is_set():
            self.wfile.write(bytes(1 << 16))

    def _forbidding(self, page: Page, _: int) -> None:
        self._send(200, page.body, {"X-Robots-Tag": page.place or "noai"})


@pytest.fixture(scope="module")
def web() -> Iterator[Web]:
    """Return a web on loopback that stops by itself."""
    server = Web()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def page() -> type[Page]:
    """Return the class of an answer of the loopback web."""
    return Page
