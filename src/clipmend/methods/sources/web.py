"""The rule for what is asked of the web, as an opener that img2dataset's ``urlopen`` goes through.

An address is asked only if it is http or https and all that its host resolves to is public; the
connection goes to the address that was checked. Redirects are followed ``REDIRECTS`` times at most,
each under the same rule. Time and size of an answer are bounded. No proxy is used: it would resolve
names where nobody checks them.
"""

import http.client
import io
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.message import Message
from functools import cached_property
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from threading import Lock
from typing import Any
from urllib.parse import SplitResult, quote, urljoin, urlsplit, urlunsplit
from urllib.request import OpenerDirector, Request

from PIL import Image, UnidentifiedImageError

REDIRECTS = 3
_REDIRECTING = frozenset({301, 302, 303, 307, 308})
_TRANSLATED = IPv6Network("64:ff9b::/96")  # IPv4 behind NAT64, RFC 6052
_SAFE = "%/:=&?~#+!$,;'@()*[]"
_CHUNK = 1 << 16
_MAX_PIXELS = 50_000_000  # 150 MB once decoded, and many are decoded side by side
_LATER = frozenset(
    {"timeout", "name_unresolved", "connection", "tls", "truncated", "http_408", "http_425"}
    | {"http_429", "http_500", "http_502", "http_503", "http_504"}
)


class WebError(Exception):
    """A request without an image: ``<reason>: <what happened>``."""

    def __init__(self, reason: str, told: str) -> None:
        super().__init__(f"{reason}: {told}")
        self.reason = reason


def may_recover(reason: str) -> bool:
    """Say whether what failed for this reason can succeed when it is asked again."""
    return reason in _LATER


@dataclass(frozen=True)
class Rule:
    """What may be asked, and how much of it.

    Attributes:
        timeout: seconds that one step of a connection may take.
        max_seconds: seconds that one image may take, redirects included.
        max_bytes: bytes that an answer may have.
        private_networks: networks that may be asked though they are not public.
    """

    timeout: float
    max_seconds: float
    max_bytes: int
    private_networks: tuple[str, ...] = ()

    def allows(self, address: str) -> bool:
        """Say whether an IP address may be connected to."""
        asked = ip_address(address.partition("%")[0])
        inner = _embedded(asked)
        return self._allows(asked) and (inner is None or self._allows(inner))

    def _allows(self, address: IPv4Address | IPv6Address) -> bool:
        if address.is_global and not address.is_multicast:
            return True
        if isinstance(address, IPv6Address) and _embedded(address) is not None:
            return True  # judged by the address inside
        return any(address in ip_network(network) for network in self.private_networks)


def _embedded(address: IPv4Address | IPv6Address) -> IPv4Address | None:
    """Return the IPv4 address that an IPv6 address leads to."""
    if isinstance(address, IPv4Address):
        return None
    if address in _TRANSLATED:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour


@dataclass
class Visit:
    """What one address gave.

    Attributes:
        hops: the addresses that redirects led to, in their order.
        size: bytes of the image, or None.
        failure: why there is no image, or None.
    """

    hops: list[str] = field(default_factory=list)
    size: int | None = None
    failure: WebError | None = None


@dataclass
class Answer:
    """An answer read whole, such as img2dataset wants it of ``urlopen``."""

    headers: Message
    body: bytes

    def read(self) -> bytes:
        """Return the body."""
        return self.body

    def __enter__(self) -> "Answer":
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is open any more."""


class Opener(OpenerDirector):
    """Answers ``urlopen`` under a rule, and notes what each address gave."""

    def __init__(self, rule: Rule) -> None:
        super().__init__()
        self.rule = rule
        self.visits: dict[str, Visit] = {}
        self._lock = Lock()

    def open(self, fullurl: Any, data: Any = None, timeout: float | None = None) -> Any:
        """Return the image at an address; ``data`` and ``timeout`` are not used.

        Raises:
            WebError: there is none, or it may not be asked for. What cannot recover is not asked
                for twice.
        """
        del data, timeout
        request = fullurl if isinstance(fullurl, Request) else Request(fullurl)
        url = request.full_url
        earlier = self.visits.get(url)
        if earlier and earlier.failure and not may_recover(earlier.failure.reason):
            raise earlier.failure
        visit = Visit()
        try:
            answer = _follow(url, dict(request.header_items()), self.rule, visit.hops)
            refuse_no_image(answer.body)
        except WebError as failure:
            visit.failure = failure
            self._note(url, visit)
            raise
        visit.size = len(answer.body)
        self._note(url, visit)
        return answer

    def _note(self, url: str, visit: Visit) -> None:
        with self._lock:
            earlier = self.visits.get(url)
            if earlier is None or earlier.failure is not None:
                self.visits[url] = visit


def _follow(url: str, headers: Mapping[str, str], rule: Rule, hops: list[str]) -> Answer:
    """Return the answer at the end of an address's redirects; each is added to ``hops``."""
    deadline = time.monotonic() + rule.max_seconds
    while True:
        asking = _Asking(url, rule, deadline)
        try:
            answer = asking.ask(headers)
        except (OSError, http.client.HTTPException) as error:
            raise _failure(error, asking.host) from error
        if isinstance(answer, Answer):
            return answer
        if len(hops) == REDIRECTS:
            raise WebError("too_many_redirects", f"more than {REDIRECTS}; the next is {answer}")
        hops.append(answer)
        url = answer


def _failure(error: Exception, host: str) -> WebError:
    """Return what went wrong on the way, in words that are the same each time."""
    if isinstance(error, TimeoutError):
        return WebError("timeout", f"no whole answer in time from {host}")
    if isinstance(error, ssl.SSLError):
        return WebError("tls", f"{error.reason or 'no handshake'}, asking {host}")
    if isinstance(error, http.client.IncompleteRead):
        return WebError("truncated", f"{host} ended the connection before the answer's end")
    told = getattr(error, "strerror", None) or type(error).__name__
    return WebError("connection", f"{told}, asking {host}")


@dataclass
class _Asking:
    """One request of one hop."""

    url: str
    rule: Rule
    deadline: float

    @cached_property
    def parts(self) -> SplitResult:
        try:
            parts = urlsplit(self.url.strip())
            _ = parts.port  # raises where it is no number
        except ValueError as error:
            raise WebError("refused_url", f"{self.url!r} is no address ({error})") from error
        if parts.scheme.lower() not in ("http", "https"):
            raise WebError("refused_scheme", f"{self.url!r}; only http and https are asked")
        if not parts.hostname:
            raise WebError("refused_url", f"{self.url!r} names no host")
        return parts

    @cached_property
    def host(self) -> str:
        name = self.parts.hostname or ""
        try:
            return name if name.isascii() else name.encode("idna").decode()
        except UnicodeError as error:
            raise WebError("refused_url", f"{name!r} is no host's name") from error

    def ask(self, headers: Mapping[str, str]) -> Answer | str:
        """Return the answer, or the address that it redirects to."""
        connection = self._connection()
        try:
            connection.request("GET", self._target(), headers=dict(headers))
            with connection.getresponse() as response:
                place = response.headers.get("Location")
                if response.status in _REDIRECTING and place:
                    return urljoin(self.url, quote(place, encoding="latin-1", safe=_SAFE))
                if response.status != 200:
                    told = http.client.responses.get(response.status, "no standard status")
                    raise WebError(f"http_{response.status}", told)
                return Answer(response.headers, self._body(response))
        finally:
            connection.close()

    def _target(self) -> str:
        path = urlunsplit(("", "", self.parts.path or "/", self.parts.query, ""))
        return quote(path, safe=_SAFE)

    def _connection(self) -> http.client.HTTPConnection:
        """Return a connection to an address of the host that the rule allows."""
        secure = self.parts.scheme.lower() == "https"
        port = self.parts.port or (443 if secure else 80)
        raw = self._socket(port)
        connection: http.client.HTTPConnection
        if secure:
            raw.settimeout(self._patience())
            raw = _tls().wrap_socket(raw, server_hostname=self.host)
            connection = http.client.HTTPSConnection(self.host, port, context=_tls())
        else:
            connection = http.client.HTTPConnection(self.host, port)
        connection.sock = raw
        connection.response_class = self._response  # type: ignore[assignment]
        return connection

    def _socket(self, port: int) -> socket.socket:
        try:
            found = socket.getaddrinfo(self.host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise WebError("name_unresolved", f"{self.host} has no address") from error
        for *_, place in found:
            if not self.rule.allows(str(place[0])):
                raise WebError("refused_address", f"{self.host} is {place[0]}, which is not public")
        failure: OSError = OSError("no address")
        for family, kind, protocol, _, place in found:
            candidate = socket.socket(family, kind, protocol)
            try:
                candidate.settimeout(self._patience())
                candidate.connect(place)
            except OSError as error:
                candidate.close()
                failure = error
            else:
                return candidate
        raise failure

    def _response(self, raw: socket.socket, *arguments: Any, **named: Any) -> Any:
        return http.client.HTTPResponse(_Bounded(raw, self._patience), *arguments, **named)  # type: ignore[arg-type]

    def _patience(self) -> float:
        """Return the seconds that the next step may take."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return min(left, self.rule.timeout)

    def _body(self, response: http.client.HTTPResponse) -> bytes:
        announced = response.length
        if announced is not None and announced > self.rule.max_bytes:
            raise WebError("too_large", f"more than {self.rule.max_bytes} bytes")
        body = bytearray()
        while chunk := response.read(_CHUNK):
            body += chunk
            if len(body) > self.rule.max_bytes:
                raise WebError("too_large", f"more than {self.rule.max_bytes} bytes")
        if announced is not None and len(body) < announced:
            raise http.client.IncompleteRead(bytes(body), announced - len(body))
        return bytes(body)


_context: list[ssl.SSLContext] = []


def _tls() -> ssl.SSLContext:
    if not _context:
        _context.append(ssl.create_default_context())
    return _context[0]


@dataclass
class _Bounded:
    """A socket whose every step waits no longer than what is left of the whole time."""

    raw: socket.socket
    patience: Callable[[], float]

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Reading(self.raw, self.patience))


class _Reading(io.RawIOBase):
    def __init__(self, raw: socket.socket, patience: Callable[[], float]) -> None:
        self._raw = raw
        self._file = raw.makefile("rb", buffering=0)  # keeps the socket open to the answer's end
        self._patience = patience

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._raw.settimeout(self._patience())
        return self._file.readinto(buffer)

    def close(self) -> None:
        self._file.close()
        super().close()


def refuse_no_image(data: bytes) -> None:
    """Decode an image to its end, reduced where its format allows it, which is cheaper.

    img2dataset decodes a truncated file without a word, with gray where the rest would be.

    Raises:
        WebError: the bytes are no image, or not a whole one.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > _MAX_PIXELS:
                raise WebError("too_large", f"{image.width} x {image.height} pixels")
            image.draft("RGB", (256, 256))
            image.load()
    except UnidentifiedImageError as error:
        raise WebError("no_image", f"{len(data)} bytes that are no image") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise WebError("too_large", "far more pixels than an image may have") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise WebError("truncated_image", f"{len(data)} bytes that end too early") from error
