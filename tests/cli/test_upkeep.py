"""doctor, support, backup, restore, cert, service: an agent kept in order, without a plant and without root."""

import json
import os
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from tests.cli.conftest import SIMULATED, program

Run = Callable[..., Result]


def self_signed(name: str) -> bytes:
    """A server's certificate, DER."""
    from datetime import UTC, datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, subject = ec.generate_private_key(ec.SECP256R1()), x509.Name.from_rfc4514_string(f"CN={name}")
    made = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    dated = made.serial_number(7).not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
    signed = dated.not_valid_after(datetime(2049, 1, 1, tzinfo=UTC)).sign(key, hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.DER)


def told(done: Result, code: int = 0) -> Any:
    assert done.exit_code == code, done.stdout + done.stderr
    return json.loads(done.stdout)


def findings(done: Result, code: int) -> dict[str, list[dict[str, str]]]:
    by_name: dict[str, list[dict[str, str]]] = {}
    for one in told(done, code)["findings"]:
        by_name.setdefault(one["what"], []).append(one)
    return by_name


def test_the_doctor_looks_at_everything_and_says_what_to_do(edge_agent: Run, configuration: Path) -> None:
    found = findings(edge_agent("doctor", "-o", "json"), 3)
    assert set(found) == {
        "clock", "sqlite", "disk", "permissions", "secrets", "certificates", "agent", "broker",
    }  # fmt: skip
    (broker,) = found["broker"]
    assert broker["state"] == "problem"
    assert broker["text"].startswith("B605 Nothing listens on 127.0.0.1:9.")
    assert broker["fix"] == "edge-agent explain B605"
    text = edge_agent("doctor")
    assert text.exit_code == 3
    assert "PROBLEM  broker" in text.stdout


def test_the_doctor_names_a_secret_and_a_certificate_that_are_missing(edge_agent: Run, configuration: Path) -> None:
    mqtt = "mqtt: {url: mqtts://127.0.0.1:9, username: u, password: {env: NOT_THERE}, ca_file: ca.pem}"
    configuration.write_text(SIMULATED.replace("mqtt: {url: mqtt://127.0.0.1:9}", mqtt), encoding="utf-8")
    found = findings(edge_agent("doctor", "-o", "json"), 3)
    assert "NOT_THERE is not set" in found["secrets"][0]["text"]
    assert "ca.pem" in found["certificates"][0]["text"]
    assert found["certificates"][0]["state"] == "problem"


def test_the_doctor_names_a_missing_password_of_a_device(edge_agent: Run, configuration: Path) -> None:
    login = "identity: {username: u, password: {env: NOT_THERE}}"
    configuration.write_text(
        "version: 1\nsite: {enterprise: acme, site: sz1, area: hall}\ndevices:\n  press-1:\n    driver: opcua\n"
        f"    url: opc.tcp://127.0.0.1:9\n    {login}\n    tags: {{s: {{node: 'nsu=u;s=s', type: int16}}}}\n"
    )
    (secret,) = findings(edge_agent("doctor", "-o", "json"), 3)["secrets"]
    assert secret["state"] == "problem"
    assert secret["text"].startswith("devices.press-1.identity.password: ")


def test_the_doctor_sees_that_the_file_is_not_what_runs(
    running: "subprocess.Popen[str]", edge_agent: Run, configuration: Path
) -> None:
    assert findings(edge_agent("doctor", "-o", "json"), 3)["drift"][0]["state"] == "ok"
    configuration.write_text(SIMULATED.replace("40/s", "41/s"), encoding="utf-8")
    found = findings(edge_agent("doctor", "-o", "json"), 3)
    assert found["drift"][0]["fix"] == "edge-agent config diff, then edge-agent reload"
    assert found["broker"][0]["text"].startswith("mqtt://127.0.0.1:9 is DOWN: B605")


def test_the_support_bundle_lists_what_is_in_it(
    running: "subprocess.Popen[str]", edge_agent: Run, configuration: Path, tmp_path: Path
) -> None:
    made = told(edge_agent("support", "-o", "json"))
    with zipfile.ZipFile(tmp_path / made["file"]) as bundle:
        assert bundle.namelist() == made["contents"]
        contents = bundle.read("CONTENTS.txt").decode()
        assert all(name in contents for name in made["contents"][1:])
        assert json.loads(bundle.read("status.json"))["agent"]["id"] == "a1"
        assert json.loads(bundle.read("versions.json"))["edge-agent"]
        assert "from: status" in bundle.read("config/edge-agent.yaml").decode()
    assert edge_agent("support").exit_code == 73
    assert edge_agent("support", "--force").exit_code == 0


def test_a_broken_configuration_gets_a_bundle_too(edge_agent: Run, configuration: Path, tmp_path: Path) -> None:
    configuration.write_text(SIMULATED.replace("from: status", "form: status"), encoding="utf-8")
    made = told(edge_agent("support", "-o", "json"))
    with zipfile.ZipFile(tmp_path / made["file"]) as bundle:
        assert "E301" in bundle.read("faults.txt").decode()
        assert "form: status" in bundle.read("config/edge-agent.yaml").decode()


@pytest.fixture
def press(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An agent's folder with an included file, a list, a certificate and a buffer; the current folder is another."""
    home = tmp_path / "old"
    (home / "kinds").mkdir(parents=True)
    (home / "edge-agent.yaml").write_text(
        "version: 1\nsite: {enterprise: acme, site: sz1, area: hall}\n"
        "mqtt: {url: mqtt://127.0.0.1:9, client_id: mine}\n"
        "agent: {id: old-1}\n"
        "include: [kinds/press.yaml]\nmachines_from: {csv: kinds/presses.csv, template: press, line: l1}\n"
    )
    (home / "kinds/press.yaml").write_text(
        "templates:\n  press:\n    vars: [ip]\n"
        "    device: {driver: opcua, url: 'opc.tcp://${ip}', tags: {run: {node: 'nsu=u;s=r', type: bool}}}\n"
        "    state: {from: run, map: {0: idle, 1: running}}\n"
    )
    (home / "kinds/presses.csv").write_text("name,ip\npress-1,10.0.0.1\n")
    monkeypatch.chdir(tmp_path)
    return home


def test_an_agent_comes_back_as_itself_or_as_a_clone_that_is_not_its_twin(edge_agent: Run, press: Path) -> None:
    config = str(press / "edge-agent.yaml")
    assert edge_agent("cert", "create", config).exit_code == 0
    made = told(edge_agent("backup", "line.zip", "-c", config, "-o", "json"))
    assert made["contents"] == [
        "config/edge-agent.yaml", "config/kinds/press.yaml", "config/kinds/presses.csv",
        "identity/data/pki/own/cert.der", "identity/data/pki/own/key.pem",
    ]  # fmt: skip
    assert made["retired"] is None
    assert stat.S_IMODE(os.stat("line.zip").st_mode) == 0o600

    same = told(edge_agent("restore", "line.zip", "--to", "same", "-o", "json"))
    assert same["agent_id"] == "old-1"
    for name in ("edge-agent.yaml", "data/pki/own/key.pem", "kinds/presses.csv"):
        assert Path("same", name).read_bytes() == (press / name).read_bytes()
    assert stat.S_IMODE(os.stat("same/data/pki/own/key.pem").st_mode) == 0o600
    assert edge_agent("restore", "line.zip", "--to", "same").exit_code == 73

    clone = told(edge_agent("restore", "line.zip", "--to", "clone", "--clone", "new-2", "-o", "json"))
    assert clone["agent_id"] == "new-2"
    assert not Path("clone/data").exists()
    text = Path("clone/edge-agent.yaml").read_text()
    assert "agent: {id: new-2}" in text
    assert "client_id: edge-agent-new-2" in text
    assert edge_agent("validate", "clone/edge-agent.yaml").exit_code == 0
    assert edge_agent("restore", "line.zip", "--to", "x", "--clone", "old-1").exit_code == 2
    assert edge_agent("restore", config, "--to", "x").exit_code == 2


@pytest.mark.parametrize(
    ("written", "restored"),
    [
        ("# first\nversion: 1\nsite: {}\n", "# first\nversion: 1\nagent: {id: pc-9}\nsite: {}\n"),
        ("version: 1\nagent: {id: 'a b'}  # x\n", "version: 1\nagent: {id: pc-9}  # x\n"),
        ("version: 1\nagent:\n  id: old\n", "version: 1\nagent:\n  id: pc-9\n"),
        (
            "version: 1\nmqtt: {client_id: m}\nagent: {id: old}\n",
            "version: 1\nmqtt: {client_id: m}\nagent: {id: pc-9}\n",
        ),
    ],
)
def test_the_agent_keeps_its_name_whatever_the_new_host_is_called(written: str, restored: str) -> None:
    from edge_agent.upkeep.archive import with_identity

    assert with_identity(written, "pc-9", clone=False) == restored


def test_a_buffer_moves_once_and_only_from_an_agent_that_stands(
    running: "subprocess.Popen[str]", configuration: Path, tmp_path: Path
) -> None:
    refused = program("backup", "line.zip", "--move", cwd=tmp_path)
    assert refused.returncode == 75
    assert "the agent runs" in refused.stderr
    running.terminate()
    running.wait(30)
    assert program("backup", "line.zip", "--move", cwd=tmp_path).returncode == 0
    assert not (tmp_path / "data/buffer.db").exists()
    assert len(list((tmp_path / "data").glob("buffer.db.moved-*"))) >= 1
    again = program("backup", "again.zip", "--move", cwd=tmp_path)
    assert (again.returncode, "there is no buffer here" in again.stderr) == (0, True)
    assert program("restore", "line.zip", "--to", "new", cwd=tmp_path).returncode == 0
    assert (tmp_path / "new/data/buffer.db").stat().st_size > 0


@pytest.mark.parametrize(
    "manifest",
    [
        "7",
        "{}",
        '{"format": 1}',
        '{"format": 1, "agent_id": "a", "config": "a.yaml", "move": false, "files": [7], "outside": {}}',
        '{"format": 1, "agent_id": "a", "config": "a", "move": false, "files": ["config/../../a"], "outside": {}}',
    ],
)
def test_a_backup_that_somebody_has_made_up_is_refused(edge_agent: Run, tmp_path: Path, manifest: str) -> None:
    with zipfile.ZipFile(tmp_path / "made-up.zip", "w") as zip_:
        zip_.writestr("manifest.json", manifest)
        zip_.writestr("config/../../a", "")
    refused = edge_agent("restore", "made-up.zip", "--to", "x")
    assert refused.exit_code == 2, refused.output
    assert not Path("x").exists()


def test_what_lies_outside_of_the_folder_goes_back_to_its_place(edge_agent: Run, press: Path, tmp_path: Path) -> None:
    config = press / "edge-agent.yaml"
    place = tmp_path / "var/buffer.db"
    config.write_text(config.read_text() + f"buffer: {{path: {place}}}\n")
    place.parent.mkdir()
    place.write_bytes(b"numbers")
    made = told(edge_agent("backup", "line.zip", "--move", "-c", str(config), "-o", "json"))
    assert f"identity/outside{place}" in made["contents"]
    assert not place.exists()
    restored = told(edge_agent("restore", "line.zip", "--to", "new", "-o", "json"))
    assert str(place) in restored["files"]
    assert place.read_bytes() == b"numbers"
    told_again = edge_agent("restore", "line.zip", "--to", "once more", "--force")
    assert f"outside once more: {place}" in told_again.stderr
    assert edge_agent("restore", "line.zip", "--to", "other").exit_code == 73, "it is there already"
    assert not Path("other").exists(), "nothing is written before that is known"


def test_a_server_is_trusted_by_file_or_by_thumbprint(edge_agent: Run, press: Path, tmp_path: Path) -> None:
    config = str(press / "edge-agent.yaml")
    created = told(edge_agent("cert", "create", config, "-o", "json"))
    assert created["created"] is True
    assert told(edge_agent("cert", "create", config, "-o", "json"))["thumbprint"] == created["thumbprint"]
    rejected = press / "data/pki/rejected"
    rejected.mkdir()
    (rejected / "press.der").write_bytes(self_signed("press-server"))
    shown = told(edge_agent("cert", "show", config, "-o", "json"))
    (server,) = shown["rejected"]
    assert shown["trusted"] == []
    assert edge_agent("cert", "trust", "0000", config).exit_code == 2
    trusted = told(edge_agent("cert", "trust", server["thumbprint"][:8].lower(), config, "-o", "json"))
    assert trusted["thumbprint"] == server["thumbprint"]
    after = told(edge_agent("cert", "show", config, "-o", "json"))
    assert (len(after["trusted"]), after["rejected"]) == (1, [])
    (tmp_path / "other.der").write_bytes(self_signed("other-server"))
    assert edge_agent("cert", "trust", "other.der", config).exit_code == 0
    assert "other-server" in edge_agent("cert", "show", config).stdout


def test_a_service_is_written_from_the_configuration_without_root(
    edge_agent: Run, configuration: Path, tmp_path: Path
) -> None:
    mqtt = "mqtt: {url: mqtt://127.0.0.1:9, username: u, password: {credential: mqtt_password}}"
    configuration.write_text(SIMULATED.replace("mqtt: {url: mqtt://127.0.0.1:9}", mqtt), encoding="utf-8")
    plan = told(edge_agent("service", "install", "--dry-run", "--user", "edge", "-o", "json"))
    assert plan["commands"] == ["systemctl daemon-reload", "systemctl enable edge-agent"]
    assert not (tmp_path / "image").exists()
    done = told(edge_agent("service", "install", "--user", "edge", "--root", "image", "-o", "json"))
    unit = Path(done["unit"]).read_text()
    assert unit == plan["text"]
    assert f"run --config {configuration}" in unit
    assert "User=edge" in unit
    assert "LoadCredential=mqtt_password:/etc/edge-agent/credentials/mqtt_password" in unit
    assert "ExecReload=/bin/kill -HUP $MAINPID" in unit
    assert edge_agent("service", "uninstall", "--root", "image").exit_code == 0
    assert not Path(done["unit"]).exists()
    assert edge_agent("service", "uninstall", "--root", "image").exit_code == 3


@pytest.mark.needs("systemd-analyze")
@pytest.mark.parametrize("name", ["line3", "line 3 & 100%"])
def test_systemd_finds_nothing_wrong_with_the_unit(
    edge_agent: Run, configuration: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    folder = configuration.parent / name
    folder.mkdir()
    (folder / "python").symlink_to(sys.executable)
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    file = configuration.rename(folder / "line.yaml")
    done = told(edge_agent("service", "install", str(file), "--root", "image", "-o", "json"))
    checked = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", done["unit"]], capture_output=True, text=True, timeout=60
    )
    assert "edge-agent.service" not in checked.stderr, checked.stderr


def test_without_systemd_there_is_a_clear_word(
    edge_agent: Run, configuration: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    for arguments in (["install"], ["start"], ["logs"]):
        done = edge_agent("service", *arguments)
        assert done.exit_code == 69
        assert "this system has no systemd" in done.stderr
        assert "edge-agent run --config FILE" in done.stderr
