"""The limits of a request to the web: each of them, on loopback."""

import asyncio
import ssl
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from clipmend.methods.sources.image_bytes import NoImageError, stored_bytes
from clipmend.methods.sources.web import RECOVERABLE, CheckedTransport, Limits, Visit, visit

LOOPBACK = ("127.0.0.1/32",)
PRIVATE = (
    *("127.0.0.1", "10.0.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0"),
    *("224.0.0.1", "::1", "fe80::1%eth0", "fd00::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1"),
    *("2002:7f00:1::",),
)
Jpeg = Callable[[int], bytes]


def ask(url: str, tls: ssl.SSLContext | None = None, **changed: Any) -> Visit:
    usual = {"timeout": 2.0, "max_seconds": 4.0, "max_bytes": 10_000, "private_networks": LOOPBACK}
    limits = Limits(**(usual | changed))

    async def run() -> Visit:
        async with CheckedTransport(limits, tls) as transport:
            return await visit(transport, url)

    return asyncio.run(run())


def reason(url: str, **changed: Any) -> str:
    answer = ask(url, **changed)
    assert answer.body is None
    assert answer.failure is not None
    return answer.failure.reason


@pytest.mark.parametrize("address", PRIVATE)
def test_addresses_that_are_not_public_are_refused(address: str) -> None:
    assert not Limits(1.0, 1.0, 1).allow(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_public_addresses_are_allowed(address: str) -> None:
    assert Limits(1.0, 1.0, 1).allow(address)


def test_a_private_network_is_allowed_where_it_is_asked_for_and_no_other() -> None:
    limits = Limits(1.0, 1.0, 1, 0, LOOPBACK)
    assert limits.allow("127.0.0.1")
    assert limits.allow("::ffff:127.0.0.1")
    assert not limits.allow("127.0.0.2")


def test_loopback_is_refused_by_its_address_whatever_its_name(web: Any) -> None:
    port = web.root.rpartition(":")[2]
    for host in ("127.0.0.1", "localhost", "127.1", "2130706433"):
        assert reason(f"http://{host}:{port}/x", private_networks=()) == "refused_address"
    assert not web.asked


def test_an_image_is_returned_with_all_its_bytes(web: Any, jpeg: Jpeg, page: Any) -> None:
    web.pages["/a b/ü.jpg"] = web.pages["/a%20b/%C3%BC.jpg"] = page("image", jpeg(1))
    assert ask(f"{web.root}/a b/ü.jpg") == Visit([], jpeg(1), None)


def test_three_redirects_are_followed_and_recorded_and_a_fourth_is_not(
    web: Any, jpeg: Jpeg, page: Any
) -> None:
    web.pages |= {
        "/0": page("image", jpeg(0)),
        **{f"/{hop}": page("redirect", place=f"/{hop - 1}") for hop in (1, 2, 3, 4)},
    }
    third, fourth = ask(f"{web.root}/3"), ask(f"{web.root}/4")
    assert third.body == jpeg(0)
    assert third.hops == [f"{web.root}/{hop}" for hop in (2, 1, 0)]
    assert fourth.failure is not None
    assert fourth.failure.reason == "too_many_redirects"
    assert fourth.hops == [f"{web.root}/{hop}" for hop in (3, 2, 1)]


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("http://127.0.0.2/x", "refused_address"),
        ("http://[::1]/x", "refused_address"),
        ("ftp://127.0.0.1/x", "refused_scheme"),
        ("file:///etc/passwd", "refused_scheme"),
        ("http://host:port/", "refused_url"),
    ],
)
def test_each_redirect_is_under_the_same_limits(
    web: Any, page: Any, place: str, expected: str
) -> None:
    web.pages["/away"] = page("redirect", place=place)
    answer = ask(f"{web.root}/away")
    assert answer.failure is not None
    assert answer.failure.reason == expected
    assert answer.hops == [place]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("ftp://127.0.0.1/x.jpg", "refused_scheme"),
        ("file:///etc/passwd", "refused_scheme"),
        ("http:///x.jpg", "refused_url"),
        ("http://127.0.0.1:99999/x.jpg", "refused_url"),
        ("http://nowhere.invalid/x.jpg", "name_unresolved"),
        ("http://127.0.0.1:1/x.jpg", "connection"),
    ],
)
def test_an_address_that_cannot_be_asked_has_its_reason(url: str, expected: str) -> None:
    assert reason(url) == expected


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("silent", "timeout"),
        ("dripping", "timeout"),
        ("dripping_headers", "timeout"),
        ("endless", "too_large"),
        ("short", "truncated"),
    ],
)
def test_an_answer_is_bounded_in_time_and_size(
    web: Any, jpeg: Jpeg, page: Any, kind: str, expected: str
) -> None:
    web.pages[f"/{kind}"] = page(kind, jpeg(1))
    assert reason(f"{web.root}/{kind}", timeout=0.3, max_seconds=0.6) == expected


def test_an_answer_that_announces_too_much_is_not_read(web: Any, page: Any) -> None:
    web.pages["/large"] = page("image", bytes(20_000))
    assert reason(f"{web.root}/large") == "too_large"


def test_text_is_no_image_and_half_an_image_is_told_from_a_whole_one(jpeg: Jpeg) -> None:
    stored_bytes(jpeg(1), None)
    for data, expected in ((b"<html>gone</html>", "no_image"), (jpeg(1)[:-40], "truncated_image")):
        with pytest.raises(NoImageError) as caught:
            stored_bytes(data, None)
        assert caught.value.reason == expected


def test_only_a_failure_that_may_recover_is_asked_again(web: Any, page: Any) -> None:
    web.forget()
    web.pages["/gone"] = page("status", place="404")
    web.pages["/busy"] = page("status", place="503")
    for path in ("/gone", "/busy"):
        reason(f"{web.root}{path}", retries=1)
    assert web.asked == ["/gone", "/busy", "/busy"]
    assert "http_503" in RECOVERABLE
    assert "http_404" not in RECOVERABLE


@pytest.mark.parametrize(
    ("tag", "is_refused"),
    [
        ("noai", True),
        ("noimageai, nofollow", True),
        ("img2dataset: NoIndex", True),
        ("clipmend: noai", True),
        ("otherbot: noai", False),
        ("nofollow", False),
    ],
)
def test_a_site_that_forbids_the_use_of_its_images_is_obeyed(
    web: Any, page: Any, jpeg: Jpeg, tag: str, is_refused: bool
) -> None:
    web.pages["/tagged"] = page("forbidding", jpeg(1), tag)
    answer = ask(f"{web.root}/tagged")
    assert (answer.failure is not None) == is_refused
    assert (answer.body is None) == is_refused


def test_a_proxy_of_the_environment_is_not_used(
    web: Any, jpeg: Jpeg, page: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    web.pages["/direct"] = page("image", jpeg(2))
    assert ask(f"{web.root}/direct").body == jpeg(2)


# TLS


@pytest.fixture(scope="module")
def secure(web: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Return the root of a loopback web behind TLS, and the certificate that vouches for it."""
    folder = tmp_path_factory.mktemp("tls")
    certificate = _certificate(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server = type(web)(context)
    server.pages = web.pages
    yield server.root.replace("http://127.0.0.1", "https://localhost"), certificate
    server.stop()


def _certificate(folder: Path) -> Path:
    """Return a file with a key made for this run and a certificate for localhost."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "both.pem").write_bytes(key.private_bytes(pem, *plain) + made.public_bytes(pem))
    return folder / "both.pem"


def test_over_tls_the_name_is_verified_at_the_address_that_was_checked(
    secure: tuple[str, Path], jpeg: Jpeg, page: Any, web: Any
) -> None:
    root, certificate = secure
    web.pages["/tls"] = page("image", jpeg(3))
    networks = (*LOOPBACK, "::1/128")
    assert reason(f"{root}/tls", private_networks=networks) == "tls"
    tls = ssl.create_default_context(cafile=str(certificate))
    assert ask(f"{root}/tls", tls, private_networks=networks).body == jpeg(3)
    wrong = root.replace("localhost", "127.0.0.1")
    assert reason(f"{wrong}/tls", tls=tls, private_networks=networks) == "tls"
    assert reason(f"{root}/tls", private_networks=()) == "refused_address"


def test_over_tls_an_answer_is_bounded_in_time(
    secure: tuple[str, Path], page: Any, web: Any
) -> None:
    root, certificate = secure
    web.pages["/drip"] = page("dripping")
    tls = ssl.create_default_context(cafile=str(certificate))
    limits = {"private_networks": (*LOOPBACK, "::1/128"), "timeout": 0.5, "max_seconds": 1.0}
    assert reason(f"{root}/drip", tls=tls, **limits) == "timeout"
