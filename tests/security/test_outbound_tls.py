"""Outbound TLS: the name is verified, though the connection goes to an address that was judged."""

import datetime as dt
import ipaddress
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from brokoli_site.common import outbound
from brokoli_site.common.addresses import Allowed
from brokoli_site.common.outbound import Limits, NotReached, opened
from tests.receivers import Receiver, answer, receiver

pytestmark = pytest.mark.any_database

LIMITS = Limits(5, 0, Allowed.read("127.0.0.1/32"))
NOW = dt.datetime.now(dt.UTC)


@dataclass(frozen=True)
class Authority:
    """Signs certificates; `path` is its own."""

    key: ec.EllipticCurvePrivateKey
    name: x509.Name
    path: Path

    def server(self, folder: Path, *names: x509.GeneralName, ended: bool = False) -> Path:
        """A file with a certificate for these names, and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        until = NOW - dt.timedelta(days=1) if ended else NOW + dt.timedelta(days=1)
        signed = (
            _certificate(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "server")]), self.name, key.public_key(), until)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        path = folder / "server.pem"
        path.write_bytes(signed.public_bytes(serialization.Encoding.PEM) + secret)
        return path


def _certificate(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, until: dt.datetime) -> x509.CertificateBuilder:
    made = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key).serial_number(x509.random_serial_number())
    return made.not_valid_before(NOW - dt.timedelta(days=2)).not_valid_after(until)


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """One that outbound requests trust."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")])
    made = _certificate(name, name, key.public_key(), NOW + dt.timedelta(days=1))
    signed = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True).sign(key, hashes.SHA256())
    path = tmp_path / "authority.pem"
    path.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    start = outbound._Session.__init__

    def trusting(self: outbound._Session, *arguments: object) -> None:
        start(self, *arguments)  # type: ignore[arg-type]
        self.verify = str(path)

    monkeypatch.setattr(outbound._Session, "__init__", trusting)
    return Authority(key, name, path)


@contextmanager
def secure(certificate: Path) -> Iterator[Receiver]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with receiver(answer(200, b"fine"), tls=context) as server:
        yield server


def ask(url: str) -> bytes:
    with opened("GET", url.replace("http:", "https:"), limits=LIMITS) as found:
        return found.read(100)


def test_a_certificate_for_the_name_is_good(authority: Authority, tmp_path: Path) -> None:
    with secure(authority.server(tmp_path, x509.DNSName("localhost"))) as server:
        assert ask(server.url(host="localhost")) == b"fine"


@pytest.mark.parametrize(
    "names", [[x509.DNSName("other.example")], [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]], ids=["another name", "the address alone"]
)
def test_a_certificate_for_another_name_is_refused(authority: Authority, tmp_path: Path, names: list[x509.GeneralName]) -> None:
    """That it names the address connected to is not enough: the address was the resolver's, the name is the pipeline's."""
    with secure(authority.server(tmp_path, *names)) as server:
        with pytest.raises(NotReached, match="certificate"):
            ask(server.url(host="localhost"))
        assert not server.received


def test_a_certificate_out_of_date_is_refused(authority: Authority, tmp_path: Path) -> None:
    with secure(authority.server(tmp_path, x509.DNSName("localhost"), ended=True)) as server, pytest.raises(NotReached, match="certificate"):
        ask(server.url(host="localhost"))


def test_an_unknown_authority_is_refused_whatever_the_environment_says(authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`REQUESTS_CA_BUNDLE` and the like are the environment's, as proxies are."""
    monkeypatch.undo()
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.setenv(name, str(authority.path))
    with secure(authority.server(tmp_path, x509.DNSName("localhost"))) as server:
        with pytest.raises(NotReached, match="certificate"):
            ask(server.url(host="localhost"))
        assert not server.received
