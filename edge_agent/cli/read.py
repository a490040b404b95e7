"""`edge-agent read` and `watch`: single tags, asked of the device now, once or again and again."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge_agent.cli.command import Section, command
from edge_agent.cli.exits import ExitCode, Stop
from edge_agent.cli.ui import Ui

if TYPE_CHECKING:
    from config.load import Loaded
    from config.model import DeviceOptions
    from edge_agent.looking import Way

_COLOURS = {"GOOD": "green", "UNCERTAIN": "yellow", "BAD": "red"}

Tags = Annotated[list[str], typer.Argument(metavar="TAG…", help="device/tag; device alone for all of its tags.")]
AllDecodings = Annotated[
    bool, typer.Option("--all-decodings", help="Modbus: the registers in every type and word order.")
]
Every = Annotated[float, typer.Option("--every", min=0.1, max=3600, metavar="SECONDS", help="Time between looks.")]
Count = Annotated[int | None, typer.Option("-n", min=1, metavar="N", help="End after so many lines.")]


def register(app: typer.Typer) -> None:
    @command(
        app,
        section=Section.LOOK,
        examples=["edge-agent read press-1/total", "edge-agent read oven-1 --all-decodings"],
    )
    def read(ui: Ui, tags: Tags, all_decodings: AllDecodings = False) -> None:
        """Tags as the device has them now: value, quality, age, raw registers. Reads only; through the agent if one
        runs. Exit code 3 if one is not good, 69 if a device cannot be reached."""
        from edge_agent.cli.loading import load
        from edge_agent.cli.progress import Progress
        from edge_agent.cli.reach import look, way

        loaded = load(ui, None)
        asked = find(loaded, tags)

        async def run() -> list[dict[str, Any]]:
            async with way(loaded.config.devices, loaded) as through:
                return await once(through, loaded, asked, wide=all_decodings)

        with Progress(ui, "tags"):
            seen = look(ui, run)
        if ui.json:
            ui.result({"ok": all(one["quality"] == "GOOD" for one in seen), "readings": seen})
        else:
            ui.result("\n".join(lines(ui, seen)))
        if any(one["quality"] == "BAD" for one in seen):
            raise Stop(ExitCode.PROBLEM)

    @command(app, section=Section.LOOK, examples=["edge-agent watch press-1/total", "edge-agent watch oven-1 -n 20"])
    def watch(
        ui: Ui, tags: Tags, all_decodings: AllDecodings = False, every: Every = 1.0, count: Count = None
    ) -> None:
        """Tags as they change, one line for each change, until Ctrl-C."""
        from edge_agent.cli.loading import load
        from edge_agent.cli.reach import look, way
        from edge_agent.clock import SystemClock

        loaded = load(ui, None)
        asked = find(loaded, tags)

        async def run() -> None:
            last: dict[str, tuple[Any, ...]] = {}
            left = count
            async with way(loaded.config.devices, loaded) as through:
                while True:
                    for one in await once(through, loaded, asked, wide=all_decodings):
                        now = one["value"], one["quality"], one["detail"], one["registers"]
                        if last.get(one["name"]) == now:
                            continue
                        last[one["name"]] = now
                        ui.result(one if ui.json else "\n".join(lines(ui, [one], stamped=True)))
                        ui.flush()
                        left = None if left is None else left - 1
                        if left == 0:
                            return
                    await SystemClock().sleep(every)

        look(ui, run)


def find(loaded: "Loaded", tags: list[str]) -> dict[str, list[str]]:
    """Device → tags asked for. A tag alone is found if one device has it. Raises `Stop`."""
    from config.errors import did_you_mean

    devices = loaded.config.devices
    asked: dict[str, list[str]] = {}
    for text in tags:
        device, _, tag = text.rpartition("/")
        if not device and text in devices:
            asked.setdefault(text, []).extend(devices[text].tags)
            continue
        having = [name for name, options in devices.items() if tag in options.tags and device in ("", name)]
        if len(having) == 1:
            asked.setdefault(having[0], []).append(tag)
            continue
        if having:
            raise Stop(ExitCode.USAGE, f"{tag!r} is a tag of {', '.join(having)}", hints=[f"write {having[0]}/{tag}"])
        if device in devices:
            its = devices[device].tags
            hint = did_you_mean(tag, its) or f"it has {', '.join(list(its)[:12]) or 'none'}"
            raise Stop(ExitCode.USAGE, f"{device} has no tag {tag!r}", hints=[hint])
        known = {*devices, *(one for options in devices.values() for one in options.tags)}
        known |= {f"{name}/{one}" for name, options in devices.items() for one in options.tags}
        hint = did_you_mean(text, known) or "edge-agent browse DEVICE shows what there is"
        raise Stop(ExitCode.USAGE, f"the configuration has no tag {text!r}", hints=[hint])
    return {device: list(dict.fromkeys(found)) for device, found in asked.items()}


async def once(
    through: "Way", loaded: "Loaded", asked: Mapping[str, list[str]], *, wide: bool
) -> list[dict[str, Any]]:
    """Each tag with stable keys; with `wide` its `decodings` too."""
    seen = []
    for device, tags in asked.items():
        for one in await through.look(device, tags, wide=wide):
            told = {"device": device, "name": f"{device}/{one['tag']}", **one}
            if wide:
                told["decodings"] = _decodings(one["registers"], loaded.config.devices[device], one["tag"])
            seen.append(told)
    return seen


def _decodings(registers: list[int], device: "DeviceOptions", tag: str) -> list[dict[str, Any]]:
    """All of them, with the one that the configuration names as `configured`."""
    from drivers.modbus.decodings import SIZES, decodings
    from drivers.modbus.encoding import of_form
    from drivers.modbus.options import ModbusDevice

    configured = None
    if isinstance(device, ModbusDevice):
        kind, word_order, byte_order, *_ = of_form(device.tags[tag], device.word_order, device.byte_order)
        configured = (kind, word_order if SIZES.get(kind, 1) > 1 else "big", byte_order)
    return [{**one._asdict(), "configured": one[:3] == configured} for one in decodings(registers)]


def lines(ui: Ui, seen: list[dict[str, Any]], *, stamped: bool = False) -> list[str]:
    """Name, value, quality, age and what came over the wire."""
    from edge_agent.cli.tail import quality_text, value_text
    from edge_agent.cli.words import ago, clock, table

    plain = table(
        [
            [
                *([clock(one["read_at"])] if stamped else []),
                one["name"],
                value_text(one),
                quality_text(one),
                ago(one["age_s"]),
                one["native"] or _registers(one["registers"]),
            ]
            for one in seen
        ],
        indent="",
    )
    out = []
    for line, one in zip(plain, seen, strict=True):
        word = one["quality"]
        out.append(line.replace(f" {word}", f" {ui.paint(word, _COLOURS[word])}", 1))
        if one.get("decodings"):
            out += _table(ui, one)
        elif one["code"]:
            out += [f"    {ui.paint(one['code'], 'yellow')}: {one['problem']}; {one['fix']}"]
    return out


def _registers(registers: list[int]) -> str:
    return "registers " + " ".join(f"{one:04X}" for one in registers) if registers else ""


def _table(ui: Ui, one: Mapping[str, Any]) -> list[str]:
    """The plausible decodings are marked, and the one in use."""
    from edge_agent.cli.words import table

    rows = [
        [
            "*" if found["plausible"] else " ",
            found["type"],
            f"word_order: {found['word_order']}" if _words(found) > 1 else "",
            f"byte_order: {found['byte_order']}",
            "-" if found["value"] is None else _short(found["value"]),
            "as configured" if found["configured"] else "",
        ]
        for found in one["decodings"]
    ]
    return [*table(rows, indent="    "), "    (* a number that people measure or count)"]


def _words(found: Mapping[str, Any]) -> int:
    from drivers.modbus.decodings import SIZES

    return SIZES[found["type"]]


def _short(value: float) -> str:
    return f"{value:.7g}" if isinstance(value, float) else str(value)
