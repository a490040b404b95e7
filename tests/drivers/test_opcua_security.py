"""The agent's own certificate, and which server certificates are believed."""

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from drivers.opcua import security
from tests.servers_opcua import make_certificate

URI = "urn:acme:press-server"


@pytest.fixture(scope="module")
def press(tmp_path_factory: pytest.TempPathFactory) -> tuple[x509.Certificate, Path]:
    folder = tmp_path_factory.mktemp("press")
    return make_certificate(folder, "press", URI)[0], folder / "press.der"


def check(certificate: x509.Certificate, trust: Path, rejected: Path, host: str = "127.0.0.1") -> None:
    security.check_server(certificate, host, trust=trust, rejected=rejected)


def test_our_own_certificate_is_made_once_and_its_key_is_ours_alone(tmp_path: Path) -> None:
    first = security.own(tmp_path / "pki")
    assert security.own(tmp_path / "pki").certificate == first.certificate
    assert first.file == tmp_path / "pki/own/cert.der"
    key = tmp_path / "pki/own/key.pem"
    if os.name == "posix":
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
        assert stat.S_IMODE(key.parent.stat().st_mode) == 0o700
    assert [file.name for file in (tmp_path / "pki").iterdir()] == ["own"]


def test_our_own_certificate_names_the_application_and_is_valid_whatever_the_clock_says(tmp_path: Path) -> None:
    own = security.own(tmp_path)
    names = own.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [own.application_uri]
    assert names.get_values_for_type(x509.DNSName)
    assert own.certificate.not_valid_before_utc.year == 2020
    assert own.certificate.not_valid_after_utc.year == 2049
    own.certificate.verify_directly_issued_by(own.certificate)


def test_our_own_certificate_is_renewed_before_it_ends_with_its_key_and_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = security.own(tmp_path)
    monkeypatch.setattr(security, "RENEW", timedelta(days=40_000))  # so near is its end
    second = security.own(tmp_path)
    assert second.certificate != first.certificate
    assert second.certificate.public_key() == first.certificate.public_key()
    assert second.application_uri == first.application_uri
    monkeypatch.undo()
    assert security.own(tmp_path).certificate == second.certificate
    kept = {file.name for file in (tmp_path / "own").iterdir()}
    assert kept == {"cert.der", "key.pem", f"cert-{security.thumbprint(first.certificate)[:16]}.der"}


def test_a_certificate_of_the_plant_is_never_renewed_by_us(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    security.own(tmp_path / "pki")
    make_certificate(tmp_path, "plant", "urn:acme:agent")
    (tmp_path / "plant.der").replace(tmp_path / "pki/own/cert.der")
    (tmp_path / "plant.key").replace(tmp_path / "pki/own/key.pem")
    first = security.own(tmp_path / "pki")
    monkeypatch.setattr(security, "RENEW", timedelta(days=40_000))
    assert security.own(tmp_path / "pki").certificate == first.certificate


def test_devices_that_start_together_share_one_certificate(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: security.own(tmp_path / "pki"), range(4)))
    assert len({own.certificate for own in found}) == 1
    assert [file.name for file in (tmp_path / "pki").iterdir()] == ["own"]


def test_a_key_that_is_not_the_certificates_is_told_before_it_is_used(tmp_path: Path) -> None:
    security.own(tmp_path / "a")
    security.own(tmp_path / "b")
    (tmp_path / "a/own/key.pem").replace(tmp_path / "b/own/key.pem")
    with pytest.raises(ValueError, match=r"key\.pem is not the RSA key"):
        security.own(tmp_path / "b")


def test_a_pinned_certificate_is_believed_from_a_file_or_a_folder_in_der_or_pem(press, tmp_path: Path) -> None:
    certificate, file = press
    check(certificate, file, tmp_path)
    check(certificate, file.with_suffix(".pem"), tmp_path)
    check(certificate, file.parent, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_without_any_trusted_certificate_nobody_is_believed(press, tmp_path: Path) -> None:
    for trust in (tmp_path / "trusted", tmp_path / "missing.der"):
        with pytest.raises(security.Untrusted, match="not trusted"):
            check(press[0], trust, tmp_path / "rejected")
    (tmp_path / "trusted").mkdir()
    with pytest.raises(security.Untrusted):
        check(press[0], tmp_path / "trusted", tmp_path / "rejected")


def test_a_rejected_certificate_is_stored_and_moving_it_is_enough_to_trust_it(press, tmp_path: Path) -> None:
    trusted, rejected = tmp_path / "trusted", tmp_path / "rejected"
    for _ in range(2):
        with pytest.raises(security.Untrusted) as raised:
            check(press[0], trusted, rejected)
    (file,) = rejected.iterdir()
    assert file.name.startswith("press-")
    assert str(file) in str(raised.value)
    assert security.thumbprint(press[0]) in str(raised.value)
    assert f"edge-agent cert trust {security.thumbprint(press[0])[:8]} " in str(raised.value)
    trusted.mkdir()
    file.rename(trusted / file.name)
    check(press[0], trusted, rejected)


def test_where_trust_is_a_folder_of_its_own_the_message_names_it(press, tmp_path: Path) -> None:
    with pytest.raises(security.Untrusted, match=r"move it to .*plant-cas"):
        check(press[0], tmp_path / "plant-cas", tmp_path / "rejected")


def test_another_certificate_of_the_same_name_is_not_believed(press, tmp_path: Path) -> None:
    other, _ = make_certificate(tmp_path / "other", "press", URI)
    with pytest.raises(security.Untrusted, match=r"write it over .*press\.der"):
        check(other, press[1], tmp_path / "rejected")


def test_a_server_cannot_fill_the_disk_with_certificates(press, tmp_path: Path) -> None:
    rejected = tmp_path / "rejected"
    rejected.mkdir()
    for number in range(100):
        (rejected / f"{number}.der").touch()
    with pytest.raises(security.Untrusted, match="is full"):
        check(press[0], tmp_path / "trusted", rejected)
    assert len(list(rejected.iterdir())) == 100


def test_a_name_in_a_certificate_cannot_leave_the_folder(tmp_path: Path) -> None:
    evil, _ = make_certificate(tmp_path, "evil", URI, common_name="../../etc/pass wd")
    with pytest.raises(security.Untrusted):
        check(evil, tmp_path / "trusted", tmp_path / "rejected")
    (file,) = (tmp_path / "rejected").iterdir()
    assert file.name.startswith("etc_pass_wd-")


def test_a_certificate_of_a_trusted_ca_is_believed_for_its_own_host_while_it_is_valid(tmp_path: Path) -> None:
    trusted, rejected = tmp_path / "trusted", tmp_path / "rejected"
    ca = make_certificate(trusted, "plant-ca", "urn:acme:ca", ca=True)
    issued, _ = make_certificate(tmp_path, "press", URI, issuer=ca)
    check(issued, trusted, rejected)
    with pytest.raises(security.Untrusted, match="another host"):
        check(issued, trusted, rejected, host="127.0.0.2")
    expired, _ = make_certificate(tmp_path, "old", URI, issuer=ca, until=datetime(2021, 1, 1, tzinfo=UTC))
    with pytest.raises(security.Untrusted, match="not valid today"):
        check(expired, trusted, rejected)
    stranger = make_certificate(tmp_path / "stranger", "plant-ca", "urn:acme:ca", ca=True)
    forged, _ = make_certificate(tmp_path, "forged", URI, issuer=stranger)
    with pytest.raises(security.Untrusted, match="not trusted"):
        check(forged, trusted, rejected)


def test_a_trusted_server_is_no_ca_for_others(tmp_path: Path) -> None:
    server = make_certificate(tmp_path / "trusted", "press", URI)
    issued, _ = make_certificate(tmp_path, "other", URI, issuer=server)
    with pytest.raises(security.Untrusted):
        check(issued, tmp_path / "trusted", tmp_path / "rejected")


def test_files_that_are_no_certificates_are_passed_over(press, tmp_path: Path) -> None:
    (tmp_path / "a.der").write_bytes(b"no")
    (tmp_path / "b.pem").write_text("-----BEGIN CERTIFICATE-----\nno\n-----END CERTIFICATE-----\n")
    (tmp_path / "c.txt").write_text("no")
    (tmp_path / "d.der").write_bytes(press[1].read_bytes())
    check(press[0], tmp_path, tmp_path / "rejected")


def test_the_first_certificate_of_a_chain_is_the_servers(press, tmp_path: Path) -> None:
    data = press[1].read_bytes()
    assert security.certificate_of(data + data) == press[0]
    assert security.certificate_of(None) is None
    assert security.certificate_of(b"") is None
