"""Downloads one image from one web address, within limits that the settings of a source state.

A request goes only to http and https, and only where all addresses of the host are public. It goes
to an address that was checked, not to the host's name, so a second answer of the name server
cannot redirect it. Each redirect is under the same limits.
"""

import asyncio
import socket
import ssl
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import urljoin, urlsplit

import httpx

from clipmend.errors import DownloadError
from clipmend.methods.sources.image_bytes import NoImageError

REDIRECTS = 3
_NAT64 = IPv6Network("64:ff9b::/96")  # IPv6 addresses that lead to IPv4 ones, RFC 6052
RECOVERABLE = frozenset(
    {"timeout", "name_unresolved", "connection", "tls", "truncated", "http_408", "http_425"}
    | {"http_429", "http_500", "http_502", "http_503", "http_504"}
)
"""The reasons of failed requests that may succeed later."""

UNREACHED = frozenset({"timeout", "name_unresolved", "connection"})
"""The reasons of failed requests to which no server answered; without a network all have one."""

_HEADERS = {
    # Many sites answer 403 to an agent that is not a browser; the agent still names this program.
    "User-Agent": "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:72.0) Gecko/20100101 Firefox/72.0 "
    "(compatible; clipmend)",
    # Uncompressed answers: a small answer must not unpack into a large one.
    "Accept-Encoding": "identity",
}
# Sites that forbid the use of images in training sets name img2dataset, the usual client.
_ROBOT_NAMES = ("clipmend", "img2dataset")
_OPT_OUTS = frozenset({"noai", "noimageai", "noindex", "noimageindex"})


@dataclass(frozen=True)
class Limits:
    """Which hosts may be contacted, and how long and how large an answer may be.

    Attributes:
        timeout: seconds for one step of a connection.
        max_seconds: seconds for one image, redirects included.
        max_bytes: bytes of an answer.
        retries: further tries, at once, after a failure that may recover.
        private_networks: networks that are not public and may be contacted nevertheless.

    Raises:
        DownloadError: a name in ``private_networks`` is not a network.
    """

    timeout: float
    max_seconds: float
    max_bytes: int
    retries: int = 0
    private_networks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for network in self.private_networks:
            try:
                ip_network(network)
            except ValueError as error:
                raise DownloadError(
                    f"private_networks: {error}; allowed are networks such as 10.1.0.0/16."
                ) from error

    def allow(self, address: str) -> bool:
        """Say whether a connection to an IP address is allowed."""
        ip = ip_address(address.partition("%")[0])  # without the zone, as in fe80::1%eth0
        if isinstance(ip, IPv6Address):
            # An IPv6 address that leads to an IPv4 one is as public as the IPv4 address.
            nat64 = IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _NAT64 else None
            ip = nat64 or ip.ipv4_mapped or ip.sixtofour or ip
        is_public = ip.is_global and not ip.is_multicast
        return is_public or any(ip in ip_network(network) for network in self.private_networks)


class CheckedTransport(httpx.AsyncHTTPTransport):
    """Resolves a host, checks all of its addresses, and connects to one of these.

    It uses no proxy, since a proxy resolves names where nobody checks the addresses. ``tls``
    replaces the certificates of the system.
    """

    def __init__(self, limits: Limits, tls: ssl.SSLContext | None = None) -> None:
        # httpx keeps open connections by IP address alone. A second host behind the same address
        # would reuse one, and its certificate would not be checked against its name.
        pool = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        tls = tls or ssl.create_default_context()
        super().__init__(verify=tls, trust_env=False, limits=pool)
        self.limits = limits

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send the request to the first address that accepts a connection."""
        url, host = request.url, request.url.raw_host.decode("ascii")
        port = url.port or (443 if url.scheme == "https" else 80)
        try:
            places = await asyncio.get_running_loop().getaddrinfo(
                host, port, type=socket.SOCK_STREAM
            )
        except (OSError, UnicodeError) as error:
            raise NoImageError("name_unresolved", f"{host} has no address") from error
        addresses = [str(place[0]) for *_, place in places]
        for address in addresses:
            if not self.limits.allow(address):
                raise NoImageError("refused_address", f"{host} is {address}, which is not public")
        request.extensions = {**request.extensions, "sni_hostname": host}
        for address in addresses[:-1]:
            request.url = url.copy_with(host=address)
            try:
                return await super().handle_async_request(request)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                continue
        request.url = url.copy_with(host=addresses[-1])
        return await super().handle_async_request(request)


@dataclass
class Visit:
    """The result of the requests to one address.

    Attributes:
        hops: the addresses that redirects led to, in their order.
        body: the bytes of the answer; None after a failure.
        failure: the reason for a missing answer, else None.
    """

    hops: list[str] = field(default_factory=list)
    body: bytes | None = None
    failure: NoImageError | None = None


async def visit(transport: CheckedTransport, url: str) -> Visit:
    """Request ``url``, and again at once after a failure that may recover."""
    limits = transport.limits
    for _ in range(1 + limits.retries):
        answer = Visit()
        try:
            # The limit of a step alone would let a server send its headers a byte at a time.
            async with asyncio.timeout(limits.max_seconds):
                answer.body = await _follow(transport, url.strip(), answer.hops)
        except (OSError, ValueError, httpx.HTTPError, httpx.InvalidURL, NoImageError) as error:
            answer.failure = _failure(error, (url, *answer.hops)[-1])
        if answer.failure is None or answer.failure.reason not in RECOVERABLE:
            break
    return answer


async def _follow(transport: CheckedTransport, url: str, hops: list[str]) -> bytes:
    """Return the answer after at most ``REDIRECTS`` redirects; each is added to ``hops``."""
    timeout = {"timeout": httpx.Timeout(transport.limits.timeout).as_dict()}
    while True:
        parts = urlsplit(url)
        if parts.scheme.lower() not in ("http", "https"):
            raise NoImageError("refused_scheme", f"{url[:200]!r}; only http and https are allowed")
        if not parts.hostname or parts.port == 0:  # a port that is not a number raises
            raise NoImageError("refused_url", f"{url[:200]!r} names no host")
        request = httpx.Request("GET", url, headers=_HEADERS, extensions=timeout)
        async with aclosing(await transport.handle_async_request(request)) as response:
            if not response.has_redirect_location:
                return await _body(response, transport.limits.max_bytes)
            target = urljoin(url, response.headers.get_list("Location")[0])
        if len(hops) == REDIRECTS:
            raise NoImageError("too_many_redirects", f"more than {REDIRECTS}; the next is {target}")
        hops.append(target)
        url = target


async def _body(response: httpx.Response, max_bytes: int) -> bytes:
    if response.status_code != 200:
        phrase = httpx.codes.get_reason_phrase(response.status_code) or "no standard status"
        raise NoImageError(f"http_{response.status_code}", phrase)
    if _opted_out(response.headers.get_list("X-Robots-Tag")):
        raise NoImageError("opted_out", "the site forbids the use of its image (X-Robots-Tag)")
    announced = int(response.headers.get("Content-Length", 0))
    body = bytearray()
    try:
        if announced <= max_bytes:
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > max_bytes:
                    break
    except httpx.RemoteProtocolError as error:
        raise NoImageError("truncated", "the connection ended before the answer did") from error
    if max(announced, len(body)) > max_bytes:
        raise NoImageError("too_large", f"more than {max_bytes} bytes")
    return bytes(body)


def _opted_out(robots_tags: Sequence[str]) -> bool:
    """Say whether a site forbids the use of an image, to all robots or to this one."""
    for value in robots_tags:
        robot, colon, directives = value.lower().rpartition(":")
        is_addressed = not colon or robot.strip() in _ROBOT_NAMES
        if is_addressed and _OPT_OUTS & {name.strip() for name in directives.split(",")}:
            return True
    return False


def _failure(error: Exception, url: str) -> NoImageError:
    """Return the failure under a name and in words that are the same each time."""
    if isinstance(error, NoImageError):
        return error
    if isinstance(error, httpx.InvalidURL | ValueError):
        return NoImageError("refused_url", f"{url[:200]!r} is not an address ({error})")
    host = urlsplit(url).hostname
    if isinstance(error, TimeoutError | httpx.TimeoutException):
        return NoImageError("timeout", f"no complete answer in time from {host}")
    cause: BaseException = error
    while cause.__cause__ or cause.__context__:
        cause = cause.__cause__ or cause.__context__ or cause
        if isinstance(cause, ssl.SSLError):
            return NoImageError("tls", f"{cause.reason or 'no handshake'}, host {host}")
    detail = getattr(cause, "strerror", None) or type(error).__name__
    return NoImageError("connection", f"{detail}, host {host}")
