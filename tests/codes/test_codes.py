"""Every code that the program says has a page, a fixture that makes it, and its words on record beside this file.

Faults of configurations have their fixtures in `tests/config/cases`. After a change of wording on purpose:
`UPDATE_EXPECTED=1 pytest tests/codes`; read the diff.
"""

import ast
import asyncio
import errno
import os
import random
import re
import socket
import sqlite3
import ssl
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from asyncua.ua.status_codes import StatusCodes
from asyncua.ua.uaerrors import UaStatusCodeError

from buffer.keeper import closed
from buffer.outbox import OutboxError
from buffer.record import fields_crc
from buffer.sqlite import SqliteOutbox
from config.catalogue import PAGES
from drivers.base import Quality, Reading
from drivers.errors import DriverError
from drivers.looking import Doubt
from drivers.modbus import faults
from drivers.modbus.doubts import implausible
from drivers.modbus.doubts import refused as refused_tag
from drivers.modbus.encoding import Encoding
from drivers.modbus.mbap import NoAnswer
from drivers.modbus.options import ModbusDevice, ModbusTag
from drivers.opcua import near
from drivers.opcua.addresses import parse_node
from drivers.opcua.doubts import doubt as opcua_doubt
from drivers.opcua.failures import Failures
from edge_agent.backoff import Backoff
from edge_agent.catalogue import RUNNING, pages
from edge_agent.checking import NOT_KNOWN
from edge_agent.cli.reference import commands
from edge_agent.clock import SystemClock
from edge_agent.collector import Collector
from edge_agent.delivery import refusals
from edge_agent.delivery.continuity import RolledBack
from edge_agent.delivery.forwarder import Forwarder
from edge_agent.delivery.publisher import PublishError
from edge_agent.gauge import SILENT, unanswered
from edge_agent.health import DeviceHealth
from edge_agent.heartbeat import CLOCK_JUMPED, jumped

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
MOM = {"broker": "mom.acme.example:8883"}
OVEN = ModbusDevice.model_validate(
    {"driver": "modbus", "url": "tcp://10.0.0.8", "unit": 9, "tags": {"a": {"coil": 0}}}
)
PRESS = Failures("press-1", "opc.tcp://10.0.0.7:4840", 4_000_000, None)

Fixture = Callable[[Path], "Exception | Awaitable[Exception]"]
FIXTURES: dict[str, Fixture] = {}


def makes(code: str) -> Callable[[Fixture], Fixture]:
    def note(fixture: Fixture) -> Fixture:
        FIXTURES[code] = fixture
        return fixture

    return note


def of_status(code: int) -> Exception:
    PRESS.certificate = "data/pki/own/cert.der"
    return PRESS.translate(UaStatusCodeError(code))


def of_doubt(doubt: Doubt) -> Exception:
    return DriverError(f"{doubt.what} | {doubt.fix}", code=doubt.code, reason="bad_quality")


FIXTURES |= {
    "B601": lambda _: refusals.connack_refused(0x86, user="line3", client_id="edge-agent-a1", **MOM),
    "B602": lambda _: refusals.unreachable(ssl.SSLError(1, "wrong version number"), ca_file="ca.pem", **MOM),
    "B603": lambda _: refusals.puback_refused(0x87, topic="ea/v1/sz1/stamping/line3/press-1/evt/state", **MOM),
    "B604": lambda _: refusals.disconnected(0x8E, client_id="edge-agent-a1", **MOM),
    "B605": lambda _: refusals.unreachable(ConnectionRefusedError(), ca_file=None, **MOM),
    "B606": lambda _: refusals.disconnected(0x8B, client_id="edge-agent-a1", **MOM),
    "B607": lambda _: refusals.puback_refused(0x95, topic="ea/v1/sz1/stamping/line3/press-1/evt/state", **MOM),
    "B608": lambda _: refusals.subscription_refused(0x87, **MOM),
    "C501": lambda _: faults.translate("oven-1", OVEN, ConnectionRefusedError(), ()),
    "C502": lambda _: faults.translate("oven-1", OVEN, TimeoutError(), ()),
    "C503": lambda _: faults.translate("oven-1", OVEN, socket.gaierror(-2, "Name or service not known"), ()),
    "C504": lambda _: of_status(StatusCodes.BadSessionClosed),
    "C505": lambda _: of_status(StatusCodes.BadTooManySessions),
    "C507": lambda _: PRESS.lost("its service level is 10; the other servers are asked.", code="C507"),
    "C509": lambda _: PRESS.translate(ValueError("not a message")),
    "C511": lambda _: of_status(StatusCodes.BadCertificateUriInvalid),
    "C512": lambda _: of_status(StatusCodes.BadSecurityChecksFailed),
    "C513": lambda _: of_status(StatusCodes.BadUserAccessDenied),
    "C521": lambda _: DriverError(near.words("FaultCod", {"FaultCode": "FaultCode"}), code="C521",
                                  reason="bad_quality"),
    "C522": lambda _: PRESS.lost("its namespaces have moved, as after a program download; the nodes are looked up "
                                 "again.", code="C522"),
    "C531": lambda _: faults.translate("oven-1", OVEN, NoAnswer(), (1,)),
    "C523": lambda _: of_doubt(opcua_doubt(
        Reading("total", None, Quality.BAD, detail="BadTypeMismatch: the server sends Int16, the tag is bool"),
        (1, 4, 7, 0, None), parse_node("nsu=urn:acme:press;s=Total"), 2, [], {})),
    "C532": lambda _: of_doubt(refused_tag(ModbusTag(holding=200), 2)),
    "C533": lambda _: of_doubt(refused_tag(ModbusTag(holding=200, type="float32"), 6)),
    "C534": lambda _: of_doubt(implausible(Encoding("float32"), (0x0000, 0x41BC))),
    "C540": lambda _: DriverError("oven-1 is not checked: the running agent holds the connection for oven-2",
                                  code=NOT_KNOWN, reason="refused"),
    "S708": lambda _: closed(),
    "S709": lambda _: RolledBack("the MOM has events with number 9 of press-1.p, and the last one here is 5"),
}  # fmt: skip


async def refused(path: Path) -> Exception:
    outbox = SqliteOutbox(path, agent_id="a1", now=lambda: 0)
    with pytest.raises(OutboxError) as error:
        await outbox.open()
    return error.value


@makes("S701")
async def _locked(folder: Path) -> Exception:
    holder = sqlite3.connect(folder / "buffer.db", isolation_level=None)
    try:
        holder.execute("PRAGMA locking_mode = EXCLUSIVE")
        holder.execute("CREATE TABLE held (n)")
        return await refused(folder / "buffer.db")
    finally:
        holder.close()


@makes("S702")
async def _no_room(folder: Path) -> Exception:
    from buffer import schema

    full = sqlite3.OperationalError("database or disk is full")
    full.sqlite_errorcode = sqlite3.SQLITE_FULL
    return schema._translate(full, folder / "buffer.db")


@makes("S704")
async def _newer(folder: Path) -> Exception:
    outbox = SqliteOutbox(folder / "buffer.db", agent_id="a1", now=lambda: 0)
    await outbox.open()
    await outbox.close()
    with sqlite3.connect(folder / "buffer.db") as database:
        database.execute(f"REPLACE INTO meta VALUES ('schema', '99', {fields_crc('schema', '99')})")
    database.close()
    return await refused(folder / "buffer.db")


@makes("S705")
async def _no_folder(folder: Path) -> Exception:
    (folder / "buffer.db").mkdir()
    return await refused(folder / "buffer.db")


@makes("S706")
async def _of_another(folder: Path) -> Exception:
    with sqlite3.connect(folder / "buffer.db") as database:
        database.execute("CREATE TABLE invoices (id INTEGER PRIMARY KEY)")
    database.close()
    return await refused(folder / "buffer.db")


@makes("S707")
async def _damaged(folder: Path) -> Exception:
    from buffer.keeper import Keeper, Settings

    path = folder / "buffer.db"
    settings = Settings(path=path, agent_id="a1", max_size=1 << 20, keep_sent=0,
                        now=lambda: 0, epoch=lambda now, before: "e")  # fmt: skip
    torn = sqlite3.DatabaseError("database disk image is malformed")
    torn.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return Keeper(settings, _Nobody())._broken(torn)


@makes("S703")
def _clock(_: Path) -> Exception:
    return _Said(CLOCK_JUMPED, jumped(-3_600_000_000))


@makes("S710")
def _hung_disk(_: Path) -> Exception:
    return _Said(SILENT, unanswered(12))


class _Said(Exception):
    """What is logged and raised by nobody."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class _Nobody:
    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


class _Sink:
    def __init__(self) -> None:
        self.said: asyncio.Queue[Any] = asyncio.Queue()

    async def feed(self, batch: Any) -> None: ...

    async def record(self, *data: Any) -> None:
        self.said.put_nowait(data[0])


class _Broken:
    """A driver, or an outbox, with a fault of its own."""

    async def connect(self) -> None:
        raise KeyError("scan")

    async def close(self) -> None: ...


@makes("C599")
async def _driver_fails(_: Path) -> Exception:
    health, sink = DeviceHealth(), _Sink()
    wait = Backoff(10**6, 10**6, random.Random(1))
    driver: Any = _Broken
    collector = Collector("oven-1", OVEN, driver, sink, health, SystemClock(), wait, tuple)
    running = asyncio.create_task(collector.run())
    await asyncio.wait_for(sink.said.get(), 20)
    running.cancel()
    await asyncio.wait([running])
    return DriverError(str(health.message), code=str(health.code), reason="exception")


@makes("B699")
async def _sending_fails(_: Path) -> Exception:
    forwarder = Forwarder.__new__(Forwarder)

    async def fails() -> PublishError:
        raise KeyError("position")

    forwarder._connect_and_send = fails  # type: ignore[method-assign]  # the fault that must not be there
    return await forwarder._connect_and_send_safely()


@pytest.mark.parametrize("code", sorted(RUNNING))
async def test_a_code_says_this(code: str, tmp_path: Path) -> None:
    made = FIXTURES[code](tmp_path)
    error: Any = made if isinstance(made, Exception) else await made
    assert error.code == code
    said = f"{code} {error}\n".replace(str(tmp_path), "FOLDER")
    expected = HERE / f"{code}.txt"
    if os.environ.get("UPDATE_EXPECTED"):
        expected.write_text(said, encoding="utf-8")
    assert said == expected.read_text("utf-8")


def codes_in_the_code() -> set[str]:
    found: set[str] = set()
    for folder in ("edge_agent", "drivers", "buffer", "config"):
        for file in (ROOT / folder).rglob("*.py"):
            if file.name != "catalogue.py":
                found |= set(re.findall(r"""["']([EWCBS]\d{3})["']""", file.read_text("utf-8")))
    return found


def test_every_code_in_the_code_has_a_page_and_every_page_its_code() -> None:
    assert codes_in_the_code() == set(pages())


def test_every_code_of_a_running_agent_has_a_fixture_and_its_words_on_record() -> None:
    assert set(RUNNING) == set(FIXTURES) == {path.stem for path in HERE.glob("*.txt")}
    assert not PAGES.keys() & RUNNING.keys()


@pytest.mark.parametrize("code", sorted(pages()))
def test_a_page_says_what_a_person_can_do(code: str) -> None:
    page = pages()[code]
    assert page.title
    assert not page.title.endswith(".")
    assert page.text.endswith((".", "?"))
    assert len(page.text) > 60


PROSE = {"is", "into", "may", "knows", "running"}
"""Words that follow the program's name in a sentence."""


def test_every_command_that_a_message_names_is_one() -> None:
    known = {name for name, _ in commands()}
    unknown = []
    for folder in ("edge_agent", "drivers", "buffer", "config"):
        for file in (ROOT / folder).rglob("*.py"):
            tree = ast.parse(file.read_text("utf-8"))
            documented = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
            for node in ast.walk(tree):
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documented:
                    words = set(re.findall(r"edge-agent ([a-z]+)", node.value)) - PROSE
                    unknown += [f"{file.name}: {word}" for word in words if f"edge-agent {word}" not in known]
    assert unknown == []


def test_an_operating_system_s_number_is_never_shown_to_a_person() -> None:
    shown: Sequence[str] = [path.read_text("utf-8") for path in HERE.glob("*.txt")]
    assert not [text for text in shown if re.search(r"\[?[Ee]rrno", text)]
    assert os.strerror(errno.ECONNREFUSED) not in "".join(shown)
