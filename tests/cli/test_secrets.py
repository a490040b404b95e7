"""Thirty secrets, each in another place; none of them may be seen anywhere."""

import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import Result

from .conftest import PROGRAM, program

COUNT = 30


def secret(number: int) -> str:
    return f"geheim-{number:02d}-Zx9Qv7Lm"


SECRETS = [secret(number) for number in range(COUNT)]


class Planted:
    """A folder with an agent's configuration, files and environment, full of secrets."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for number in (2, 3, 4):
            file = folder / f"secret-{number}.txt"
            file.write_text(secret(number) + "\n")
            file.chmod(0o600)
        (folder / "credentials").mkdir()
        for number in (5, 6):
            (folder / "credentials" / f"c{number}").write_text(secret(number))
        own = folder / "data/pki/own"
        own.mkdir(parents=True)
        (own / "key.pem").write_text(f"-----BEGIN PRIVATE KEY-----\n{secret(7)}\n-----END PRIVATE KEY-----\n")
        (own / "cert.der").write_bytes(b"0" + secret(8).encode())
        (folder / "client.key").write_text(f"-----BEGIN PRIVATE KEY-----\n{secret(9)}\n")
        (folder / "client.pem").write_text(f"-----BEGIN CERTIFICATE-----\n{secret(10)}\n")
        (folder / "presses.csv").write_text(f"name,ip,password\npress-9,127.0.0.1,{secret(11)}\n")
        self.env = {
            "CREDENTIALS_DIRECTORY": str(folder / "credentials"),
            "MQTT_PASSWORD": secret(0),
            "PLC_PASSWORD": secret(1),
            **{f"EXTRA_{word}": secret(12 + n) for n, word in enumerate(("TOKEN", "SECRET", "PASSWD", "PWD"))},
        }

    def write(self, more: str = "", password: str = "{env: MQTT_PASSWORD}") -> None:
        (self.folder / "edge-agent.yaml").write_text(
            f"""\
version: 1
agent: {{id: a1}}
site: {{enterprise: acme, site: sz1, area: hall}}
mqtt: {{url: mqtt://127.0.0.1:9, username: line3, password: {password}}}
buffer: {{path: buffer.db}}
templates:
  press:
    vars: [ip, password]
    line: l1
    device:
      driver: opcua
      url: "opc.tcp://${{ip}}:9"
      security: none
      insecure: true
      identity: {{username: u, password: "${{password}}"}}
      tags: {{run: {{node: 'nsu=u;s=r', type: bool}}}}
    state: {{from: run, map: {{0: idle, 1: running}}}}
machines_from: {{csv: presses.csv, template: press}}
machines:
  press-1: {{template: press, vars: {{ip: 127.0.0.1, password: {secret(16)}}}}}
  press-2:
    line: l1
    device:
      driver: opcua
      url: opc.tcp://127.0.0.1:9
      security: none
      insecure: true
      identity: {{username: u, password: {{env: PLC_PASSWORD}}}}
      tags: {{run: {{node: 'nsu=u;s=r', type: bool}}}}
    state: {{from: run, map: {{0: idle, 1: running}}}}
  saw-1:
    line: l1
    device: {{driver: simulated, tags: {{status: {{kind: constant, value: 2}}}}}}
    state: {{from: status, map: {{2: running}}}}
{more}"""
        )

    def run(self, *arguments: str) -> str:
        done = program(*arguments, cwd=self.folder, env=self.env)
        return done.stdout + done.stderr


@pytest.fixture
def planted(tmp_path: Path) -> Planted:
    return Planted(tmp_path)


def unseen(said: str, where: str) -> None:
    assert said, where
    seen = [one for one in SECRETS if one in said]
    assert seen == [], f"{where} shows {seen}"


def broken() -> Iterator[tuple[str, str]]:
    """Faults around a secret: what is quoted of it, and what of its neighbours. (more, password)"""
    yield f"http: {{token: {secret(17)}, listen: 1}}\n", "x"
    yield f"api_secret: {secret(18)}\n", "x"
    yield f"extra: {{password: [{secret(19)}, {{a: {secret(20)}}}]}}\n", "x"
    yield "", f"{{env: X, {secret(21)}: 1}}"
    yield "", f"'{secret(22)}"
    yield "", f'"{secret(23)}\\q"'
    yield f"more: {{passphrase: {secret(24)}, b: [1, 2}}\n", "x"
    yield f"url: mqtt://user:{secret(25)}@host:1\n", "x"
    yield f"\tpwd: {secret(26)}\n", "x"
    yield f"db_password: {secret(27)}: {secret(28)}\n", "x"
    yield "", f"[{secret(29)}]"


def test_no_fault_shows_a_secret(planted: Planted, edge_agent: Callable[..., Result]) -> None:
    for more, password in broken():
        planted.write(more, password)
        for form in ("text", "json"):
            done = edge_agent("validate", "-o", form)
            assert done.exit_code == 78
            unseen(done.stdout + done.stderr, f"validate of {more or password!r}")
    planted.write("bad_token: x\n")
    unseen(planted.run("support", "--to", "broken.zip"), "support of a broken file")
    unseen(whole(planted.folder / "broken.zip"), "the bundle of a broken file")


def test_no_output_log_or_bundle_shows_a_secret(planted: Planted, edge_agent: Callable[..., Result]) -> None:
    for password in ("{env: MQTT_PASSWORD}", "{file: secret-2.txt}", "{credential: c5}", secret(3)):
        planted.write(password=password)
        for form in ("text", "json"):
            shown = edge_agent("config", "show", "-o", form)
            unseen(shown.stdout + shown.stderr, f"config show -o {form}")
    for arguments in (
        ["doctor"],
        ["service", "install", "--dry-run"],
        ["cert", "show"],
        ["once", "-v"],
        ["check", "-v"],
        ["check", "-o", "json"],
        ["read", "press-2", "-v"],
        ["explain", "C513"],
    ):
        unseen(planted.run(*arguments), " ".join(arguments))
    planted.write()
    log = planted.folder / "agent.log"
    with log.open("w") as out:
        agent = subprocess.Popen(
            [*PROGRAM, "run", "-v"], cwd=planted.folder, env={**os.environ, **planted.env}, stdout=out, stderr=out
        )
    try:
        for _ in range(200):
            if log.read_text().count("C501") >= 2 and "B605" in log.read_text():
                break
            unseen(planted.run("status", "-v"), "status")
        for arguments in (["explain", "press-1"], ["config", "diff", "-o", "json"], ["support"], ["reload"]):
            unseen(planted.run(*arguments), " ".join(arguments))
    finally:
        agent.terminate()
        agent.wait(30)
    unseen(log.read_text(), "the log")
    unseen(whole(planted.folder / "edge-agent-support.zip"), "the support bundle")


def whole(bundle: Path) -> str:
    with zipfile.ZipFile(bundle) as found:
        return "\n".join(found.read(name).decode("utf-8", "replace") for name in found.namelist())


def test_no_traceback_shows_a_secret(planted: Planted) -> None:
    planted.write()
    script = (
        "import sys, tempfile\n"
        f"tempfile.tempdir = {str(planted.folder)!r}\n"
        "from edge_agent.cli import loading, validate\n"
        "def read(path):\n"
        "    import os\n"
        "    loaded = original(path)\n"
        "    raise RuntimeError(f'{loaded.config.mqtt!r} {loaded.config!r} {os.environ[\"MQTT_PASSWORD\"]}')\n"
        "original, validate.read = loading.read, read\n"
        "from edge_agent.__main__ import main\n"
        "sys.argv = ['edge-agent', 'validate']\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=planted.folder, env={**os.environ, **planted.env}, capture_output=True,
        text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    unseen(done.stdout + done.stderr, "the sentence about a bug")
    (kept,) = planted.folder.glob("edge-agent-bug-*.txt")
    assert "RuntimeError" in kept.read_text()
    unseen(kept.read_text(), "the traceback that is kept")


def test_every_secret_was_planted() -> None:
    source = Path(__file__).read_text("utf-8")
    planted = {int(number) for number in __import__("re").findall(r"secret\((\d+)\)", source)} | set(range(2, 7))
    assert planted | set(range(12, 16)) == set(range(COUNT))
