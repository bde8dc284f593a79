"""Pictures and files of pairs such as a user has, and a web on loopback to fetch them from."""

import pickle
import re
import shutil
import ssl
import tarfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from clipmend import cli
from clipmend.engine import locks, plan, presets
from clipmend.model import arithmetic

CLASSES = ("frog", "ship")
TEN = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


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

    do_HEAD = do_GET  # noqa: N815

    def _send(self, status: int, body: bytes, headers: Mapping[str, str] = {}) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _image(self, page: Page, _: int) -> None:
        self._send(200, page.body)

    def _file(self, page: Page, _: int) -> None:
        """Send a file from any byte on; a hub names its commit and checksum."""
        start = int(self.headers.get("Range", "bytes=0-")[len("bytes=") : -1])
        headers = {"ETag": f'"{sha256(page.body).hexdigest()}"', "X-Repo-Commit": page.place}
        self._send(206 if start else 200, page.body[start:], headers)

    def _status(self, page: Page, _: int) -> None:
        code = {"X-Error-Code": page.body.decode()} if page.body else {}  # as a hub names it
        self._send(int(page.place), b"no", code)

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


@pytest.fixture
def download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """Return ``clipmend download mine`` for a corpus of these settings: exit code and output."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(locks, "hold_main", lambda: None)
    monkeypatch.setattr(time, "sleep", lambda _: None)  # between two tries
    for name in ("prepare", "start"):  # numpy and torch are loaded already
        monkeypatch.setattr(arithmetic, name, lambda *_: None)

    def run(preset: str = "smoke", **settings: Any) -> tuple[int, str]:
        values = presets.values(presets.preset(preset))
        values["download"] = {"corpora": ["mine"], "settings": {"mine": settings}}
        # A few pairs are too few for most methods, which is another test's subject.
        values["poison"] |= {"methods": ["unpoisoned"], "settings": {}}
        for stage in ("detect", "unlearn", "baselines"):
            values[stage] = {"methods": [], "settings": {}}
        values["poison"]["target"] = "ship"
        Path("params.yaml").write_text(yaml.safe_dump(values))
        shutil.rmtree("results", ignore_errors=True)
        plan.arrange()
        monkeypatch.setattr("sys.argv", ["clipmend", "download", "mine"])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            cli.main()
        printed = capsys.readouterr()
        return int(stop.value.code or 0), printed.out + printed.err

    return run


@pytest.fixture
def refused(download: Callable[..., tuple[int, str]]) -> Callable[[dict[str, Any], str], None]:
    """Return a check that a download fails with one line like ``message``, and makes nothing."""

    def check(settings: dict[str, Any], message: str) -> None:
        code, printed = download(**settings)
        lines = [line for line in printed.splitlines() if line.startswith("clipmend: ")]
        assert (code, len(lines)) == (2, 1), printed
        assert re.search(message, lines[0]), printed
        assert "Traceback" not in printed
        assert not Path("results/download/mine/train.parquet").exists()

    return check


def _batch(first: int, count: int, classes: int = 10) -> dict[str, Any]:
    """Return pictures of noise, whose labels follow one another."""
    pixels = np.random.default_rng(first).integers(0, 256, (count, 3072), np.uint8)
    return {"data": pixels, "labels": [(first + at) % classes for at in range(count)]}


def _hundred(batch: dict[str, Any]) -> dict[str, Any]:
    labels = batch.pop("labels")
    return batch | {"fine_labels": labels, "coarse_labels": [label // 2 for label in labels]}


@pytest.fixture(scope="session")
def archive() -> Callable[..., bytes]:
    """Return a maker of archives in the form of CIFAR-10; keywords replace or remove files."""

    def make(**replaced: Any) -> bytes:
        files = {f"data_batch_{number}": _batch(10 * number - 10, 10) for number in range(1, 6)}
        files |= {"test_batch": _batch(0, 20), "batches.meta": {"label_names": list(TEN)}}
        return _tar(files | replaced)

    return make


@pytest.fixture(scope="session")
def hundred() -> bytes:
    """Return an archive in the form of CIFAR-100, with three classes in two superclasses."""
    names = {
        "fine_label_names": ["aquarium_fish", "ray", "oak_tree"],
        "coarse_label_names": ["fish", "trees"],
    }
    train, test = (_hundred(_batch(0, count, classes=3)) for count in (90, 30))
    return _tar({"train": train, "test": test, "meta": names})


def _tar(files: Mapping[str, Any]) -> bytes:
    made = BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        for name, content in files.items():
            if content is not None:
                data = pickle.dumps(content, protocol=2)
                member = tarfile.TarInfo(f"cifar/{name}")
                member.size = len(data)
                tar.addfile(member, BytesIO(data))
    return made.getvalue()


@pytest.fixture(scope="session")
def page() -> type[Page]:
    """Return the class of an answer of the loopback web."""
    return Page
