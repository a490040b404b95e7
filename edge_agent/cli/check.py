"""`edge-agent check`: the configuration against the plant: every device, tag, certificate, and the broker."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer

from edge_agent.cli.command import Section, command
from edge_agent.cli.exits import ExitCode, Stop
from edge_agent.cli.loading import File, load
from edge_agent.cli.ui import Ui

if TYPE_CHECKING:
    from config.load import Loaded
    from edge_agent.checking import Checked

_COLOURS = {"UP": "green", "DOWN": "red", "UNKNOWN": "yellow"}


def register(app: typer.Typer) -> None:
    @command(app, section=Section.CHECK, examples=["edge-agent check", "edge-agent check line3.yaml -o json"])
    def check(ui: Ui, file: File = None) -> None:
        """The configuration against the plant: connects to every device and the broker, and names each bad tag,
        certificate and permission with what to do. Publishes nothing; through the agent if one runs.

        Exit code 3 if something is wrong, 69 if a device or the broker cannot be reached, 75 if the running agent is
        still connecting to one, 78 for the file itself.
        """
        from edge_agent import checking
        from edge_agent.cli.progress import Progress
        from edge_agent.cli.reach import look

        loaded = load(ui, file)
        total = sum(len(options.tags) for options in loaded.config.devices.values())
        with Progress(ui, "tags", total) as progress:
            status, found = look(ui, lambda: _all(loaded, lambda name, count: progress.step(name, count)))
        through = status is not None
        if status is not None and status["agent"]["config_hash"] != loaded.hash:
            ui.warn("the agent runs with another configuration than this file: edge-agent config diff shows it")
        faults = [fault for one in found for fault in one.faults]
        said = " ".join(fault.what for fault in faults)
        wrong = [
            one
            for one in files(loaded, secrets=not through)  # those of a running agent may be for its user alone
            if (one["text"].partition(": ")[2] or one["text"]) not in said
        ]
        statuses = {one.status for one in found}
        if ui.json:
            ui.result(
                {
                    "ok": not faults and not wrong,
                    "through": "agent" if through else "own connections",
                    "devices": [_told(one) for one in found[:-1]],
                    "broker": _told(found[-1]),
                    "faults": [fault.as_json() for fault in faults],
                    "certificates": wrong,
                }
            )
        else:
            _show(ui, found, wrong, through=through)
        if "DOWN" in statuses:
            raise Stop(ExitCode.UNREACHABLE)
        if checking.CONNECTING in statuses:
            raise Stop(ExitCode.TRY_AGAIN)
        if faults or wrong:
            raise Stop(ExitCode.PROBLEM)


async def _all(loaded: "Loaded", told: Any) -> "tuple[dict[str, Any] | None, list[Checked]]":
    """(the status of the agent that was asked, the devices and the broker last)"""

    from drivers.registry import Drivers
    from edge_agent import checking
    from edge_agent.cli.reach import held_by
    from edge_agent.cli.running import agent_of
    from edge_agent.clock import SystemClock
    from edge_agent.control.client import NotRunning
    from edge_agent.looking import LOOK_TIME, Direct, ThroughAgent, Way

    agent = agent_of(loaded, answer_time=LOOK_TIME)
    try:
        status: dict[str, Any] | None = await checking.settled(
            lambda: agent.ask("status"), lambda what: told(what, 0)
        )
    except NotRunning:
        status = None
    async with Direct(loaded.config.devices, Drivers().open, SystemClock()) as direct:

        def way(name: str) -> Way:
            if status is None:
                return direct
            known, options = status["devices"].get(name), loaded.config.devices[name]
            if known is not None and known["endpoint"] == options.endpoint:
                return (
                    checking.Told(known) if known["status"] in ("DOWN", checking.CONNECTING) else ThroughAgent(agent)
                )
            holders = held_by(status, options.endpoint)
            return checking.Elsewhere(holders) if holders else direct

        found = await checking.devices(loaded, way, told)
    if status is None:
        return None, [*found, await checking.broker(loaded)]
    return status, [*found, checking.broker_of(loaded, status["broker"])]


def files(loaded: "Loaded", *, secrets: bool) -> list[dict[str, str]]:
    """What is wrong with the files of certificates and, if asked for, with secrets."""
    from edge_agent.clock import SystemClock
    from edge_agent.upkeep import doctor

    found = [*doctor.certificates(loaded, SystemClock()), *(doctor.secrets(loaded) if secrets else ())]
    return [one._asdict() for one in found if one.state == "problem"]


def _told(one: "Checked") -> dict[str, Any]:
    return {
        "name": one.name,
        "endpoint": one.endpoint,
        "status": one.status,
        "tags": one.tags,
        "good": one.good,
        "codes": [fault.code for fault in one.faults],
    }


def _show(ui: Ui, found: "Sequence[Checked]", wrong: list[dict[str, str]], *, through: bool) -> None:
    from edge_agent.cli.words import table

    devices, broker = found[:-1], found[-1]
    rows = [
        [one.status, one.name, one.endpoint, f"{one.good}/{one.tags} tags good" if one.status == "UP" else ""]
        for one in devices
    ]
    said = "takes the login" if broker.status == "UP" and not through else ""
    rows.append([broker.status, "broker", broker.endpoint, said])
    for line in table(rows, indent=""):
        word = line.split()[0]
        ui.result(line.replace(word, ui.paint(word, _COLOURS.get(word, "yellow")), 1))
    for one in found:
        for fault in one.faults:
            ui.fault(fault.render())
        if one.native and ui.verbose:
            ui.error(one.native)
    for problem in wrong:
        ui.error(problem["text"], *([f"fix: {problem['fix']}"] if problem["fix"] else []))
    count = sum(len(one.faults) for one in found) + len(wrong)
    agent = ", through the agent that runs" if through else ""
    problems = f"{count} problem{'s' if count != 1 else ''}" if count else "all is well"
    ui.result(f"{problems}{agent}")
