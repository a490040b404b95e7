"""Where the tags of a first configuration come from: the device, a spreadsheet, or what `browse` saved."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from edge_agent.cli.exits import ExitCode, Stop
from edge_agent.cli.loading import report
from edge_agent.cli.reach import not_held
from edge_agent.cli.ui import Ui

if TYPE_CHECKING:
    from config.source import Source
    from edge_agent.tag_table import Row

MOST_TAGS = 500
"""More are no first configuration."""
DEPTH = 6
"""Levels below the place that are looked into."""
LIMIT = 4.0
"""Seconds for one answer of an OPC UA server."""
_POLICIES = ("Basic256Sha256", "Aes256_Sha256_RsaPss", "Aes128_Sha256_RsaOaep")
"""In the order in which they are chosen."""
PASSWORD = "OPCUA_PASSWORD"
"""The environment variable that holds the password of --user."""
_DEFAULT = {"policy": "Basic256Sha256", "mode": "SignAndEncrypt"}


@dataclass(frozen=True)
class Device:
    """A device with its tags. `lines`: of the file, but the tags. `values`: of tags, as far as they were seen."""

    url: str
    lines: Sequence[str]
    rows: "Sequence[Row]"
    values: Mapping[str, Any] = field(default_factory=dict)
    table: "Source | None" = None
    """The spreadsheet that the tags come from."""

    def check(self, ui: Ui, text: str, target: Path, machine: str) -> None:
        """Faults of the file that come from a spreadsheet are told where they stand there. Raises `Stop`."""
        if self.table is None:
            return
        from edge_agent.cli.tags import faults_of_rows
        from edge_agent.tag_table import Row

        rows = [Row(machine, row.tag, row.settings, row.places) for row in self.rows]
        if faults := faults_of_rows(text, target, rows, self.table):
            report(ui, Path(self.table.file), faults)
            raise Stop(ExitCode.BAD_CONFIG)


class Wanted(NamedTuple):
    """What the options say about the device and its tags."""

    opcua: str | None
    modbus: str | None
    unit: int
    tags: Path | None
    below: str
    only: str
    insecure: bool
    offline: bool
    user: str | None = None

    @property
    def url(self) -> str:
        given = self.opcua if self.opcua is not None else self.modbus
        if given is None:
            hints = ["--opcua opc.tcp://HOST:4840 or --modbus HOST"]
            what = f"{self.tags} says what the tags are, but not where the device is"
            raise Stop(ExitCode.USAGE, what, hints=hints)
        return given if "://" in given else f"{'opc.tcp' if self.opcua is not None else 'tcp'}://{given}"


def device(ui: Ui, target: Path, wanted: Wanted) -> Device:
    """Raises `Stop`: for a device that cannot be reached 69, for what cannot be a configuration 2 or 78."""
    from edge_agent.first_config import modbus, opcua

    url = wanted.url
    if not wanted.offline and (wanted.opcua is not None or wanted.tags is None):
        not_held(ui, url)
    pki = target.parent / "data" / "pki"
    offer = Offer(_DEFAULT, True) if wanted.opcua is None or wanted.offline else _offered(ui, url)
    security = None if wanted.insecure else offer.security
    options = _options(security, pki, wanted.user)
    values: dict[str, Any] = {}
    table = None
    if wanted.tags is not None:
        rows, table = _of_file(ui, wanted.tags)
        rows = [row for row in rows if wanted.only.casefold() in row.tag.casefold()]
    else:
        rows, values = _of_device(ui, wanted, {} if offer.open and wanted.user is None else options)
    if not rows:
        raise Stop(ExitCode.PROBLEM, "nothing there can be a tag", hints=["look elsewhere with --below PATH"])
    if len(rows) > MOST_TAGS:
        hints = [
            "name a place with --below PATH, or --filter TEXT",
            f"edge-agent browse {url} --depth 1 shows places",
        ]
        raise Stop(ExitCode.USAGE, f"{len(rows)} tags are no first configuration: {MOST_TAGS} at most", hints=hints)
    if wanted.opcua is None:
        return Device(url, modbus(url, wanted.unit), rows, values, table)
    if security is None and not wanted.insecure:
        ui.warn("the server offers no connection that protects: everyone on the network can read it and forge")
    elif security is not None and not wanted.offline:
        _try(ui, url, options)
    return Device(url, opcua(url, security, identity(wanted.user)), rows, values, table)


class Offer(NamedTuple):
    """The best security that a server offers, None for none, and whether it lets anybody look without."""

    security: Mapping[str, str] | None
    open: bool


def identity(user: str | None) -> dict[str, Any] | None:
    """Who logs in; the password is never written."""
    return None if user is None else {"username": user, "password": {"env": PASSWORD}}


def _options(security: Mapping[str, str] | None, pki: Path, user: str | None) -> dict[str, Any]:
    """The settings of the connection that the file will have."""
    given = {} if user is None else {"identity": identity(user)}
    if security is None:
        return {"security": "none", "insecure": True, **given}
    return {"security": {**security, "pki": str(pki)}, **given}


def _of_device(ui: Ui, wanted: Wanted, options: Mapping[str, Any]) -> "tuple[list[Row], dict[str, Any]]":
    """(the tags, their values by name). `options`: settings for a server that shows strangers nothing."""
    from edge_agent.cli.browse import rows, walk
    from edge_agent.cli.reach import look, of_address, way

    device = of_address(wanted.url, None if wanted.opcua is not None else wanted.unit, **options)

    async def run() -> tuple[list[dict[str, Any]], list[str]]:
        async with way({wanted.url: device}, None) as through:
            return await walk(ui, through, wanted.url, wanted.below, DEPTH)

    try:
        found, notes = look(ui, run)
    except Stop as stop:
        hints = [f"{hint} --pki {options['security']['pki']}, then init again" for hint in _trust(stop)]
        raise Stop(
            stop.code, stop.message, hints=[*stop.hints, *hints], fault=stop.fault, native=stop.native
        ) from None
    for note in notes:
        ui.note(f"   {note}")
    only = wanted.only.casefold()
    able = [one for one in found if one["tag"] is not None and only in one["path"].casefold()]
    made = rows("", able)
    return made, {row.tag: one["value"] for row, one in zip(made, able, strict=True) if one["value"] is not None}


def _of_file(ui: Ui, file: Path) -> "tuple[list[Row], Source | None]":
    """The tags of a spreadsheet, with it, or of YAML as `browse --yaml` prints it. Raises `Stop`."""
    from config.errors import ConfigFaults
    from config.source import read
    from edge_agent.tag_table import read as read_table

    try:
        source = read(file)
        if file.suffix.lower() in (".yaml", ".yml"):
            return _of_yaml(source), None
        rows, faults = read_table(source)
        if faults:
            raise ConfigFaults(faults)
    except ConfigFaults as broken:
        report(ui, file, broken.faults)
        raise Stop(ExitCode.BAD_CONFIG) from None
    return rows, source


def _of_yaml(source: "Source") -> "list[Row]":
    """Raises ConfigFaults, and `Stop`."""
    from config.yaml12 import parse, plain
    from edge_agent.tag_table import Row

    root = plain(parse(source).root)
    tags = root.get("tags", root)
    if not isinstance(tags, dict) or not all(isinstance(one, dict) for one in tags.values()):
        hints = ["edge-agent browse DEVICE --yaml prints such a file"]
        raise Stop(ExitCode.BAD_CONFIG, f"{source.file} holds no tags: NAME: {{node: …, type: …}}", hints=hints)
    return [Row("", str(name), settings) for name, settings in tags.items()]


def _offered(ui: Ui, url: str) -> Offer:
    """What the server offers. Raises `Stop`."""
    from drivers.errors import DriverError
    from drivers.looking import Answered, Asking
    from drivers.registry import Drivers
    from edge_agent.cli.progress import Progress
    from edge_agent.cli.reach import look

    spec = Drivers().discoverers()["opcua"]

    async def run() -> Answered | None:
        return await spec.discover(url, Asking(LIMIT))

    try:
        with Progress(ui, "the server"):
            answered = look(ui, run)
    except DriverError as error:
        hints = ["edge-agent init --offline writes a file with examples to fill in"]
        raise Stop(ExitCode.UNREACHABLE, str(error), hints=hints, fault=error.code, native=error.native) from None
    if answered is None:
        raise Stop(ExitCode.UNREACHABLE, f"what listens at {url} is no OPC UA server")
    endpoints = answered.details["endpoints"]
    offered = {end["policy"] for end in endpoints if end["mode"] == "SignAndEncrypt"}
    policy = next((policy for policy in _POLICIES if policy in offered), None)
    anybody = any(end["policy"] == "None" and "anonymous" in end["logins"] for end in endpoints)
    return Offer(None if policy is None else {"policy": policy, "mode": "SignAndEncrypt"}, anybody)


def _try(ui: Ui, url: str, protected: Mapping[str, Any]) -> None:
    """One protected connection, so that what is missing for it is known now: mostly trust, on either side."""
    from edge_agent.cli.progress import Progress
    from edge_agent.cli.reach import look, of_address, way

    async def run() -> None:
        async with way({url: of_address(url, **protected)}, None) as through:
            await through.browse(url, "")

    try:
        with Progress(ui, "a protected connection"):
            look(ui, run)
    except Stop as stop:
        ui.warn(f"{stop.fault} {stop.message}")


def _trust(stop: Stop) -> list[str]:
    """What to do about a certificate that is not trusted yet."""
    found = re.search(r"SHA-1 ([0-9A-F]{8})", stop.message)
    if found is None:
        return []
    return [f"compare SHA-1 with what the server shows, then: edge-agent cert trust {found[1]}"]
