"""The rule for what is asked of the web: each clause of it, on loopback."""

import ssl
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.request import Request

import pytest

from clipmend.methods.sources.web import Opener, Rule, Visit, WebError, may_recover, refuse_no_image

LOOPBACK = ("127.0.0.1/32",)
PRIVATE = (
    *("127.0.0.1", "10.0.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0"),
    *("224.0.0.1", "::1", "fe80::1%eth0", "fd00::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1"),
    *("2002:7f00:1::",),
)
Jpeg = Callable[[int], bytes]


def opener(**changed: Any) -> Opener:
    usual = {"timeout": 2.0, "max_seconds": 4.0, "max_bytes": 10_000}
    return Opener(Rule(**(usual | {"private_networks": LOOPBACK} | changed)))


def refusal(opened: Opener, url: str) -> WebError:
    with pytest.raises(WebError) as caught:
        opened.open(Request(url))
    return caught.value


@pytest.mark.parametrize(
    "address",
    PRIVATE,
)
def test_addresses_that_are_not_public_are_refused(address: str) -> None:
    assert not Rule(1.0, 1.0, 1).allows(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_public_addresses_are_allowed(address: str) -> None:
    assert Rule(1.0, 1.0, 1).allows(address)


def test_a_private_network_is_allowed_where_it_is_asked_for_and_no_other() -> None:
    rule = Rule(1.0, 1.0, 1, LOOPBACK)
    assert rule.allows("127.0.0.1")
    assert rule.allows("::ffff:127.0.0.1")
    assert not rule.allows("127.0.0.2")


def test_loopback_is_refused_by_its_address_whatever_its_name(web: Any) -> None:
    port = web.root.rpartition(":")[2]
    for host in ("127.0.0.1", "localhost", "127.1", "2130706433"):
        failure = refusal(opener(private_networks=()), f"http://{host}:{port}/x")
        assert failure.reason == "refused_address"
    assert not web.asked


def test_an_image_is_answered_whole_and_its_size_is_noted(web: Any, jpeg: Jpeg, page: Any) -> None:
    web.pages["/a b/ü.jpg"] = web.pages["/a%20b/%C3%BC.jpg"] = page("image", jpeg(1))
    opened = opener()
    with opened.open(Request(f"{web.root}/a b/ü.jpg")) as answer:
        assert answer.read() == jpeg(1)
    assert opened.visits[f"{web.root}/a b/ü.jpg"] == Visit([], len(jpeg(1)), None)


def test_three_redirects_are_followed_and_recorded_and_a_fourth_is_not(
    web: Any, jpeg: Jpeg, page: Any
) -> None:
    web.pages |= {
        "/0": page("image", jpeg(0)),
        **{f"/{hop}": page("redirect", place=f"/{hop - 1}") for hop in (1, 2, 3, 4)},
    }
    opened = opener()
    assert opened.open(f"{web.root}/3").read() == jpeg(0)
    assert opened.visits[f"{web.root}/3"].hops == [f"{web.root}/{hop}" for hop in (2, 1, 0)]
    failure = refusal(opened, f"{web.root}/4")
    assert failure.reason == "too_many_redirects"
    assert opened.visits[f"{web.root}/4"].hops == [f"{web.root}/{hop}" for hop in (3, 2, 1)]


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("http://127.0.0.2/x", "refused_address"),
        ("http://[::1]/x", "refused_address"),
        ("ftp://127.0.0.1/x", "refused_scheme"),
        ("file:///etc/passwd", "refused_scheme"),
        ("http://host:port/", "refused_url"),
    ],
)
def test_each_redirect_is_under_the_same_rule(web: Any, page: Any, place: str, reason: str) -> None:
    web.pages["/away"] = page("redirect", place=place)
    opened = opener()
    assert refusal(opened, f"{web.root}/away").reason == reason
    assert opened.visits[f"{web.root}/away"].hops == [place]


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("ftp://127.0.0.1/x.jpg", "refused_scheme"),
        ("file:///etc/passwd", "refused_scheme"),
        ("http:///x.jpg", "refused_url"),
        ("http://127.0.0.1:99999/x.jpg", "refused_url"),
        ("http://nowhere.invalid/x.jpg", "name_unresolved"),
        ("http://127.0.0.1:1/x.jpg", "connection"),
    ],
)
def test_what_cannot_be_asked_has_its_reason(url: str, reason: str) -> None:
    assert refusal(opener(), url).reason == reason


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("silent", "timeout"),
        ("dripping", "timeout"),
        ("endless", "too_large"),
        ("short", "truncated"),
    ],
)
def test_an_answer_is_bounded_in_time_and_size(
    web: Any, jpeg: Jpeg, page: Any, kind: str, reason: str
) -> None:
    web.pages[f"/{kind}"] = page(kind, jpeg(1))
    assert refusal(opener(timeout=0.3, max_seconds=0.6), f"{web.root}/{kind}").reason == reason


def test_an_answer_that_announces_too_much_is_not_read(web: Any, page: Any) -> None:
    web.pages["/large"] = page("image", bytes(20_000))
    assert refusal(opener(), f"{web.root}/large").reason == "too_large"


def test_text_is_no_image_and_half_an_image_is_told_from_a_whole_one(jpeg: Jpeg) -> None:
    refuse_no_image(jpeg(1))
    for data, reason in ((b"<html>gone</html>", "no_image"), (jpeg(1)[:-40], "truncated_image")):
        with pytest.raises(WebError) as caught:
            refuse_no_image(data)
        assert caught.value.reason == reason


def test_what_cannot_recover_is_not_asked_for_twice(web: Any, page: Any) -> None:
    web.forget()
    web.pages["/gone"] = page("status", place="404")
    web.pages["/busy"] = page("status", place="503")
    opened = opener()
    for path in ("/gone", "/gone", "/busy", "/busy"):
        refusal(opened, f"{web.root}{path}")
    assert web.asked == ["/gone", "/busy", "/busy"]
    assert may_recover("http_503")
    assert not may_recover("http_404")


def test_a_proxy_of_the_environment_is_not_used(
    web: Any, jpeg: Jpeg, page: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    web.pages["/direct"] = page("image", jpeg(2))
    assert opener().open(f"{web.root}/direct").read() == jpeg(2)


# TLS


@pytest.fixture(scope="module")
def secure(web: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Return the root of a loopback web behind TLS, and the certificate that vouches for it."""
    folder = tmp_path_factory.mktemp("tls")
    certificate = _certificate(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    played = type(web)(context)
    played.pages = web.pages
    yield played.root.replace("http://127.0.0.1", "https://localhost"), certificate
    played.stop()


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
    secure: tuple[str, Path], jpeg: Jpeg, page: Any, web: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, certificate = secure
    web.pages["/tls"] = page("image", jpeg(3))
    rule = {"private_networks": (*LOOPBACK, "::1/128")}
    assert refusal(opener(**rule), f"{root}/tls").reason == "tls"
    context = ssl.create_default_context(cafile=str(certificate))
    monkeypatch.setattr("clipmend.methods.sources.web._context", [context])
    assert opener(**rule).open(f"{root}/tls").read() == jpeg(3)
    wrong = root.replace("localhost", "127.0.0.1")
    assert refusal(opener(**rule), f"{wrong}/tls").reason == "tls"
    assert refusal(opener(private_networks=()), f"{root}/tls").reason == "refused_address"


def test_over_tls_an_answer_is_bounded_in_time(
    secure: tuple[str, Path], page: Any, web: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, certificate = secure
    web.pages["/drip"] = page("dripping")
    context = ssl.create_default_context(cafile=str(certificate))
    monkeypatch.setattr("clipmend.methods.sources.web._context", [context])
    rule = {"private_networks": (*LOOPBACK, "::1/128"), "timeout": 0.5, "max_seconds": 1.0}
    assert refusal(opener(**rule), f"{root}/drip").reason == "timeout"
