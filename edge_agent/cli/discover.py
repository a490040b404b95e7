"""`edge-agent discover`: what answers at an address: OPC UA endpoints and security, or Modbus units.

Only the addresses that were typed are contacted. What a running agent is connected to is told and left alone.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge_agent.cli.command import Section, command
from edge_agent.cli.exits import ExitCode, Stop
from edge_agent.cli.ui import Ui

if TYPE_CHECKING:
    from drivers.looking import Asking, Discoverer

MOST_PORTS = 1024
_BETWEEN = 0.2
"""Seconds between two protocols at one address: a device that allows one connection must see the first one end."""
_SHORT = {
    "C501": "nothing listens there",
    "C502": "no answer within {limit:g} s",
    "C503": "the name cannot be resolved: write the IP address",
}
_NO_UNIT = (
    "no unit answers: are speed and parity those of the line (serial:///dev/ttyUSB0?baud=9600&parity=N)? "
    "--units asks for others"
)

Addresses = Annotated[
    list[str], typer.Argument(metavar="HOST[:PORT]…", help="Or a URL: opc.tcp://…, tcp://…, serial:///dev/ttyUSB0")
]
Ports = Annotated[
    str, typer.Option("--ports", metavar="LIST", help="4840,48010-48020; default: those of OPC UA and Modbus.")
]
Units = Annotated[str, typer.Option("--units", metavar="LIST", help="Modbus units: 1-32,255; default: 0-10 and 255.")]
Timeout = Annotated[float, typer.Option("--timeout", min=0.05, max=60, metavar="SECONDS", help="For one answer.")]


def register(app: typer.Typer) -> None:
    @command(
        app,
        section=Section.LOOK,
        examples=["edge-agent discover 10.20.1.11", "edge-agent discover tcp://10.20.1.31:502 --units 1-32"],
    )
    def discover(ui: Ui, addresses: Addresses, ports: Ports = "", units: Units = "", timeout: Timeout = 1.0) -> None:
        """What answers at an address: OPC UA endpoints, security and certificates, or Modbus units.

        Reads only, and asks no address that was not typed. Exit code 69 if nothing answers.
        """
        from drivers.looking import Asking
        from drivers.registry import Drivers
        from edge_agent.cli.progress import Progress
        from edge_agent.cli.reach import held_by, look, status_here

        known = Drivers().discoverers()
        wanted_ports = numbers(ports, "--ports", 1, 65_535) if ports else []
        wanted_units = numbers(units, "--units", 0, 255) if units else []
        if len(wanted_ports) > MOST_PORTS:
            raise Stop(ExitCode.USAGE, f"at most {MOST_PORTS} ports at a time", hints=["name fewer with --ports"])
        targets = [target for text in addresses for target in candidates(known, text, wanted_ports)]
        status = status_here(ui)
        held = {place: names for place, urls in targets if (names := held_by(status, urls[0][1]))}
        with Progress(ui, "asked", 0) as progress:
            asking = Asking(timeout, wanted_units, progress.step)

            async def run() -> list[dict[str, Any]]:
                return [await ask(known, place, urls, asking) for place, urls in targets if place not in held]

            told = look(ui, run)
        found = [one for one in told if "protocol" in one]
        nothing = [one for one in told if "protocol" not in one]
        taken = [{"address": place, "devices": names} for place, names in held.items()]
        if ui.json:
            ui.result({"ok": bool(found or taken), "found": found, "held": taken, "nothing": nothing})
        else:
            for line in lines(ui, found, taken, nothing, timeout):
                ui.result(line)
        if not found and not taken:
            raise Stop(ExitCode.UNREACHABLE)


Target = tuple[str, list[tuple[str, str]]]
"""A place as it was typed, and (driver, URL) in the order in which they are tried there."""


def candidates(known: "Mapping[str, Discoverer]", text: str, ports: list[int]) -> list[Target]:
    """What is asked at an address. Raises `Stop`."""
    from urllib.parse import urlsplit

    if text.startswith("/dev/") or re.fullmatch(r"COM\d+", text, re.IGNORECASE):
        text = f"serial://{text}"
    if "://" in text:
        scheme = text.partition("://")[0]
        drivers = [name for name, spec in known.items() if scheme in spec.schemes]
        if not drivers:
            schemes = sorted(scheme for spec in known.values() for scheme in spec.schemes)
            hint = f"known are {', '.join(f'{scheme}://' for scheme in schemes)}, or HOST alone"
            raise Stop(ExitCode.USAGE, f"nothing is known that answers at {scheme}://", hints=[hint])
        if not ports:
            return [(text, [(drivers[0], text)])]
        host = urlsplit(text).hostname or ""
        return [(f"{_bracketed(host)}:{n}", [(drivers[0], f"{scheme}://{_bracketed(host)}:{n}")]) for n in ports]
    try:
        parts = urlsplit(f"//{text}" if text.count(":") < 2 or text.startswith("[") else f"//[{text}]")
        host, port = parts.hostname or "", parts.port
        if parts.path or parts.query or "@" in parts.netloc:
            host = ""
    except ValueError:
        host, port = "", None
    if not host:
        hint = "an address is HOST, HOST:PORT or a URL; one at a time, for ranges are not searched"
        raise Stop(ExitCode.USAGE, f"{text!r} is no address", hints=[hint])
    usual = {next(iter(spec.schemes.items()))[1]: name for name, spec in known.items()}
    wanted = [port] if port is not None else ports or sorted(usual)
    return [
        (f"{_bracketed(host)}:{n}", [(name, f"{next(iter(known[name].schemes))}://{_bracketed(host)}:{n}")
                                     for name in _order(known, usual.get(n))])
        for n in wanted
    ]  # fmt: skip


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _order(known: "Mapping[str, Discoverer]", usual: str | None) -> list[str]:
    """The driver whose port it is first; elsewhere OPC UA, which is told at once from all others."""
    first = usual or "opcua"
    return sorted(known, key=lambda name: name != first)


async def ask(
    known: "Mapping[str, Discoverer]", place: str, urls: list[tuple[str, str]], asking: "Asking"
) -> dict[str, Any]:
    """What answers there; without `protocol` nothing that is known."""
    from pydantic import ValidationError

    from drivers.errors import DriverError
    from edge_agent.clock import SystemClock

    for at, (driver, url) in enumerate(urls):
        asking.told(url)
        if at:
            await SystemClock().sleep(_BETWEEN)
        try:
            answered = await known[driver].discover(url, asking)
        except DriverError as error:
            return {"address": place, "code": error.code, "error": str(error), "native": error.native}
        except ValidationError as error:
            raise Stop(ExitCode.USAGE, f"{url}: {error.errors()[0]['msg']}") from None
        if answered is not None:
            return {"address": place, "protocol": answered.protocol, **answered.details}
    if place.startswith("serial:"):
        return {"address": place, "code": "", "error": _NO_UNIT}
    tried = " or ".join("OPC UA" if driver == "opcua" else driver.capitalize() for driver, _ in urls)
    return {"address": place, "code": "", "error": f"something listens there, but it does not answer as {tried}"}


def numbers(text: str, option: str, low: int, high: int) -> list[int]:
    """`1-3,7` as numbers, each once. Raises `Stop`."""
    found: dict[int, None] = {}
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        if not (first.isdecimal() and (last or first).isdecimal()):
            raise Stop(ExitCode.USAGE, f"{option}: {part!r} is no number and no range", hints=[f"{option} 1-3,7"])
        one, two = int(first), int(last or first)
        if not low <= one <= two <= high:
            raise Stop(ExitCode.USAGE, f"{option}: {part!r} is not within {low} to {high}, the smaller number first")
        found |= dict.fromkeys(range(one, two + 1))
    return list(found)


def lines(
    ui: Ui,
    found: list[dict[str, Any]],
    held: list[dict[str, Any]],
    nothing: list[dict[str, Any]],
    limit: float,
) -> Iterator[str]:
    """The screen."""
    for one in found:
        yield from _opcua(ui, one) if one["protocol"] == "opcua" else _modbus(ui, one)
    for one in held:
        names = ", ".join(one["devices"])
        yield f"{one['address']}  the running agent is connected to it as {names}, so it was left alone"
        yield f"  next: edge-agent browse {one['devices'][0]}"
    for one in nothing:
        short = not one["address"].startswith("serial:") and _SHORT.get(one["code"])
        said = short.format(limit=limit) if short else one["error"]
        yield f"{one['address']}  {one['code'] + ' ' if one['code'] else ''}{said}"
        if ui.verbose and one.get("native"):
            yield f"  {one['native']}"


def _opcua(ui: Ui, one: Mapping[str, Any]) -> Iterator[str]:
    from edge_agent.cli.words import local, table

    name = one["application"]
    yield f"{one['address']}  {ui.paint('OPC UA', 'green')}  {name['name']} ({name['uri']})"
    if one["state"] is None:
        yield f"  state      unknown: {one['locked'] or 'the server does not say'}"
    else:
        product = " ".join(filter(None, (one["maker"], one["product"], one["version"])))
        since = f" since {local(one['started_at'])}" if one["started_at"] else ""
        off = one["clock_off_s"]
        clock = f", its clock is {off:+g} s off" if off is not None and abs(off) > 2 else ""
        yield f"  state      {one['state']}{since}{f', {product}' if product else ''}{clock}"
    rows = _endpoints(one["endpoints"])
    for at, row in enumerate(table(rows, indent="")):
        yield f"  {'endpoints' if not at else '':<11}{row}"
    for certificate in one["certificates"]:
        if "thumbprint" not in certificate:
            yield f"  certificate  {certificate['problem']}"
            continue
        yield f"  certificate  {certificate['subject']}, SHA-1 {certificate['thumbprint']}"
        problem = f"; it {certificate['problem']}" if certificate["problem"] else ""
        yield f"             until {certificate['not_after'][:10]}{problem}"
    for announced in one["announced"]:
        if announced["resolves"]:
            yield f"  announces  {announced['url']}; the address you typed is used"
        else:
            yield f"  announces  {announced['url']}, a name this PC cannot resolve; the address you typed works"
    for server in one["servers"]:
        yield f"  knows also {server['name']} at {', '.join(server['urls'])}"
    yield f"  next: edge-agent init --opcua {one['url']}"


def _endpoints(offered: list[dict[str, Any]]) -> list[list[str]]:
    """Mode, logins and policies; those of one mode and the same logins in one row."""
    rows: dict[tuple[str, str], list[str]] = {}
    for end in offered:
        policies = rows.setdefault((end["mode"], ", ".join(end["logins"])), [])
        policies.append(end["policy"] if end["usable"] else f"{end['policy']} (not supported here)")
    return [
        ["no security" if mode == "None" else mode, logins, "" if mode == "None" else ", ".join(policies)]
        for (mode, logins), policies in rows.items()
    ]


def _modbus(ui: Ui, one: Mapping[str, Any]) -> Iterator[str]:
    yield f"{one['address']}  {ui.paint('Modbus', 'green')}  {_units(one)}"
    alike: dict[tuple[str, ...], list[int]] = {}
    for unit in one["units"]:
        alike.setdefault(tuple(_about(unit)), []).append(unit["unit"])
    for about, units in alike.items():
        yield f"  {spans(units)}{': the same' if len(units) > 1 else ''}"
        yield from (f"    {text}" for text in about)
    first = one["units"][0]["unit"]
    yield f"  next: edge-agent browse {one['url']} holding/0-99{f' --unit {first}' if first != 1 else ''}"


def _about(unit: Mapping[str, Any]) -> Iterator[str]:
    """What a unit calls itself and what its tables say."""
    identity = unit["identity"]
    yield " ".join(identity[key] for key in ("vendor", "product", "revision") if identity.get(key)) or (
        "does not say what it is"
    )
    told: dict[str, list[str]] = {}
    for table, said in unit["tables"].items():
        told.setdefault(said, []).append(table)
    for said, tables in told.items():
        yield f"{', '.join(tables)}: {said if said != 'answers' else 'answer'}"


def _units(one: Mapping[str, Any]) -> str:
    units = [unit["unit"] for unit in one["units"]]
    return f"{spans(units)} answer{'s' if len(units) == 1 else ''}"


def spans(numbers: Sequence[int]) -> str:
    """`unit 3`, or `units 0-10, 255`."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    return f"unit{'s' if len(numbers) > 1 else ''} {', '.join('-'.join(map(str, run)) for run in runs)}"
