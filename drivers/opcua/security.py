"""The agent's own certificate, and which server certificates are believed.

A folder (`pki`, see `options.Security`) holds

    own/cert.der      the agent's certificate: give it to the server to trust
    own/key.pem       its key, mode 0600
    trusted/          certificates of servers, or of the CAs that issued them
    rejected/         certificates of servers that were not trusted, by name and thumbprint

A server is believed if its certificate itself is trusted (then its dates and names do not matter: somebody put it
there), or if a trusted CA issued it directly, it is valid now and it names the host of the address. Without any
trusted certificate nothing is believed. Revocation lists are not read.
"""

import ipaddress
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_VALID = datetime(2020, 1, 1, tzinfo=UTC), datetime(2049, 12, 31, tzinfo=UTC)
"""Fixed, so that a PC whose clock is wrong makes a certificate that is valid all the same."""
RENEW = timedelta(days=30)
"""Before its end a certificate made here is renewed."""
_RENEWED_FOR = timedelta(days=3650)
_MADE_BY = "edge-agent"
_SUFFIXES = frozenset((".der", ".cer", ".crt", ".pem"))
_MOST_REJECTED = 100
"""No server fills the disk with certificates."""


class Own(NamedTuple):
    """The agent as an OPC UA application."""

    certificate: x509.Certificate
    key: rsa.RSAPrivateKey
    application_uri: str
    """As the certificate has it: the server compares them."""
    file: Path


class Untrusted(Exception):
    """The server's certificate is not believed. The text says why and what to do."""


def own(pki: Path) -> Own:
    """The agent's certificate and key; made on first use, and renewed before it ends if it was made here: with the
    same key and names, the old one beside it. Blocking: 0.1 s to make a key.

    Raises OSError, and ValueError if the files are not a certificate and its RSA key.
    """
    folder = pki / "own"
    if not (folder / "cert.der").exists():
        _create(folder)
    certificate, key = _pair(folder / "cert.der", folder / "key.pem")
    uris = _names(certificate, x509.UniformResourceIdentifier)
    if not uris:
        raise ValueError(f"{folder / 'cert.der'} names no application URI")
    now = datetime.now(UTC)  # noqa: TID251 - validity is judged by the wall clock of this PC
    if _made_here(certificate) and certificate.not_valid_after_utc - now < RENEW:
        certificate = _renew(folder, certificate, key, now)
    return Own(certificate, key, uris[0], folder / "cert.der")


class User(NamedTuple):
    """A user who is known by a certificate."""

    certificate: x509.Certificate
    key: rsa.RSAPrivateKey


def user(certificate: Path, key: Path) -> User:
    """Blocking. Raises OSError, and ValueError if the files are not a certificate and its RSA key."""
    return User(*_pair(certificate, key))


def _pair(certificate: Path, key: Path) -> tuple[x509.Certificate, rsa.RSAPrivateKey]:
    shown = _load(certificate.read_bytes())
    try:
        secret = serialization.load_pem_private_key(key.read_bytes(), password=None)
    except TypeError as error:
        raise ValueError(f"{key} has a pass phrase") from error
    if not isinstance(secret, rsa.RSAPrivateKey) or secret.public_key() != shown.public_key():
        raise ValueError(f"{key} is not the RSA key of {certificate}")
    return shown, secret


def _made_here(certificate: x509.Certificate) -> bool:
    organizations = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    return certificate.issuer == certificate.subject and [str(name.value) for name in organizations] == [_MADE_BY]


def _renew(folder: Path, old: x509.Certificate, key: rsa.RSAPrivateKey, now: datetime) -> x509.Certificate:
    """The old certificate is kept: servers that pinned it may be shown which one took its place."""
    (host,) = _names(old, x509.DNSName)[:1] or [socket.gethostname()]
    fresh = _self_signed(key, host, until=now + _RENEWED_FOR)
    (folder / f"cert-{thumbprint(old)[:16]}.der").write_bytes(old.public_bytes(serialization.Encoding.DER))
    aside = folder / "cert.new"
    aside.write_bytes(fresh.public_bytes(serialization.Encoding.DER))
    aside.replace(folder / "cert.der")
    return fresh


def _create(folder: Path) -> None:
    """Both files at once or none: they are written aside and the folder is renamed. Who comes second takes what
    is there."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    host = socket.gethostname() or "localhost"
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    certificate = _self_signed(key, host)
    aside = Path(tempfile.mkdtemp(prefix="own-", dir=folder.parent))  # mode 0700
    try:
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        with open(os.open(aside / "key.pem", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(pem)
        (aside / "cert.der").write_bytes(certificate.public_bytes(serialization.Encoding.DER))
        aside.rename(folder)
    except OSError:
        if not (folder / "cert.der").exists():
            raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _self_signed(key: rsa.RSAPrivateKey, host: str, until: datetime = _VALID[1]) -> x509.Certificate:
    """An application instance certificate (Part 6, 6.2.2) with URI and host name."""
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, f"edge-agent@{host}"[:64]),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, _MADE_BY),
        ]
    )
    public = key.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .not_valid_before(_VALID[0])
        .not_valid_after(until)
        .serial_number(x509.random_serial_number())
        .public_key(public)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.UniformResourceIdentifier(f"urn:{host}:edge-agent"), x509.DNSName(host)]
            ),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=True,
                content_commitment=True,
                key_encipherment=True,
                data_encipherment=True,
                key_agreement=False,
                key_cert_sign=True,  # a self-signed one signs itself; servers built on OpenSSL look for it
                crl_sign=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )


def certificate_of(der: bytes | None) -> x509.Certificate | None:
    """The first certificate of what a server shows, which may be a chain. Raises ValueError."""
    if not der:
        return None
    length = 4 + int.from_bytes(der[2:4], "big") if der[1:2] == b"\x82" else len(der)
    return x509.load_der_x509_certificate(der[:length])


def check_server(certificate: x509.Certificate, host: str, *, trust: Path, rejected: Path) -> None:
    """Raises `Untrusted` if the server's certificate is not believed, and stores it in `rejected`.

    `trust` is one certificate or a folder of them. Blocking: reads every file of the folder.
    """
    problem = _problem(certificate, host, trust)
    if problem is None:
        return
    kept = _reject(certificate, rejected)
    mark = thumbprint(certificate)
    stored = f"it is in {kept}" if kept else f"{rejected} is full and it was not stored"
    if trust.suffix.lower() in _SUFFIXES:
        right = f"write it over {trust}"
    elif kept and trust == rejected.parent / "trusted":
        right = f"edge-agent cert trust {mark[:8]}"
    else:
        right = f"move it to {trust}"
    raise Untrusted(
        f"{problem}: {certificate.subject.rfc4514_string()}, SHA-1 {mark}. If the server shows the same: {right} "
        f"({stored})."
    )


def thumbprint(certificate: x509.Certificate) -> str:
    """SHA-1 in hex, as PLC tools show it."""
    return certificate.fingerprint(hashes.SHA1()).hex().upper()


def _problem(certificate: x509.Certificate, host: str, trust: Path) -> str | None:
    """Why the certificate is not believed; None if it is."""
    closest = "the server's certificate is not trusted"
    for trusted in _certificates(trust):
        if trusted == certificate:
            return None
        if not _issued(certificate, trusted):
            continue
        now = datetime.now(UTC)  # noqa: TID251 - validity is judged by the wall clock of this PC
        if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
            closest = "the server's certificate is not valid today"
        elif not names_host(certificate, host):
            closest = f"the server's certificate was issued for another host than {host}"
        else:
            return None
    return closest


def _issued(certificate: x509.Certificate, ca: x509.Certificate) -> bool:
    try:
        if not ca.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            return False
        certificate.verify_directly_issued_by(ca)
    except (x509.ExtensionNotFound, ValueError, TypeError, InvalidSignature):
        return False
    return True


def names_host(certificate: x509.Certificate, host: str) -> bool:
    """Whether the certificate was issued for the host name or IP address."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host.lower() in (name.lower() for name in _names(certificate, x509.DNSName))
    return str(address) in _names(certificate, x509.IPAddress)


def _names(certificate: x509.Certificate, kind: type[x509.GeneralName]) -> list[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return []
    return [str(name.value) for name in found if isinstance(name, kind)]


def _certificates(trust: Path) -> Iterator[x509.Certificate]:
    """What is trusted; files that are no certificate are passed over."""
    files = sorted(trust.iterdir()) if trust.is_dir() else [trust]
    for file in files:
        if file.suffix.lower() in _SUFFIXES and file.is_file():
            with suppress(ValueError):
                yield _load(file.read_bytes())


def _load(data: bytes) -> x509.Certificate:
    return (x509.load_pem_x509_certificate if b"-----BEGIN" in data else x509.load_der_x509_certificate)(data)


def _reject(certificate: x509.Certificate, folder: Path) -> Path | None:
    """Where the certificate is now; None if the folder is full."""
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    name = _file_name(str(names[0].value) if names else "")
    file = folder / f"{name}-{thumbprint(certificate)[:16]}.der"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        if sum(1 for _ in folder.iterdir()) >= _MOST_REJECTED:
            return None
        file.write_bytes(certificate.public_bytes(serialization.Encoding.DER))
    return file


def _file_name(text: str) -> str:
    """What a stranger calls itself, as a harmless part of a file name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text)[:60].strip("._") or "server"
