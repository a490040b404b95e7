"""`edge-agent once`: read every tag once, show what was read and what would be sent."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge_agent.cli.command import Section, command
from edge_agent.cli.exits import ExitCode, Stop
from edge_agent.cli.loading import File, load
from edge_agent.cli.ui import Ui
from edge_agent.cli.words import counted

if TYPE_CHECKING:
    from config.load import Loaded

SETTLE = 3.0
"""Seconds that an agent runs after everything was read, so that states settle and counts are flushed."""
SEND_TIME = 20.0
"""Seconds for the broker to confirm everything."""

Publish = Annotated[bool, typer.Option("--publish", help="Send the events too, through the buffer, as `run` would.")]
_COLOURS = {"GOOD": "green", "UNCERTAIN": "yellow", "BAD": "red", "NEVER": "red"}


def register(app: typer.Typer) -> None:
    @command(app, section=Section.CHECK, examples=["edge-agent once", "edge-agent once line3.yaml --publish"])
    def once(ui: Ui, file: File = None, publish: Publish = False) -> None:
        """Read every tag once and show it, with the events that come of it. Nothing is sent without --publish.

        Exit code 3 if a tag is not good, 69 if a device (with --publish also the broker) cannot be reached.
        """
        from edge_agent.cli.progress import Progress
        from edge_agent.cli.run import log_to_stderr, runner

        loaded = load(ui, file)
        log_to_stderr(Ui(quiet=not ui.verbose, verbose=ui.verbose))
        with Progress(ui, "tags"), runner() as loop:
            told = loop.run(_look(loaded))
        if publish and not told["unreachable"]:
            from edge_agent.cli.run import refusals

            with refusals(), runner() as loop:
                told["published"] = loop.run(_publish(loaded))
        bad = [row for row in told["readings"] if row["quality"] in ("BAD", "NEVER")]
        if ui.json:
            ui.result({"ok": not bad and not told["unreachable"], **told})
        else:
            _show(ui, told)
        if told["unreachable"]:
            raise Stop(ExitCode.UNREACHABLE)
        if bad:
            raise Stop(ExitCode.PROBLEM)


async def _look(loaded: "Loaded") -> dict[str, Any]:
    """Readings, events and what could not be reached, with stable keys."""
    from drivers.registry import Drivers
    from edge_agent.cli.first_look import look_at, rows, would_send
    from edge_agent.clock import SystemClock

    config, clock = loaded.config, SystemClock()
    looks = await look_at(config.devices, Drivers().open, clock)
    unreachable = [
        {"device": name, "code": look.failure.code, "error": str(look.failure), "native": look.failure.native}
        for name, look in looks.items()
        if look.failure is not None
    ]
    return {
        "readings": rows(config, looks, clock.now().wall),
        "events": would_send(config, looks),
        "unreachable": unreachable,
        "published": None,
    }


async def _publish(loaded: "Loaded") -> int:
    """Run the agent until everything was read, stored and confirmed; how many events that were."""
    import asyncio

    from edge_agent.clock import SystemClock
    from edge_agent.control.client import ControlClient
    from edge_agent.control.place import socket_path
    from edge_agent.runtime import Agent

    clock, stop, ready = SystemClock(), asyncio.Event(), asyncio.Event()
    agent = ControlClient(socket_path(loaded.base_dir / loaded.config.buffer.path))
    task = asyncio.create_task(Agent(loaded).run(stop, ready.set), name="agent")
    waiting = asyncio.create_task(ready.wait())
    await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if task.done():
        task.result()
    try:
        await clock.sleep(SETTLE)
        deadline = clock.now().mono + round(SEND_TIME * 1e6)
        while True:
            status = await asyncio.to_thread(agent.ask, "status")
            if status["buffer"]["rows"] == 0:
                return int(status["broker"]["confirmed"])
            if clock.now().mono > deadline:
                broker = status["broker"]
                why = broker["message"] or "it has not confirmed everything in time"
                raise Stop(
                    ExitCode.UNREACHABLE,
                    f"the events are in the buffer, but not with the broker {broker['url']}: {why}",
                    fault=broker["code"] or "",
                )
            await clock.sleep(0.1)
    finally:
        stop.set()
        await asyncio.wait([task])


def _show(ui: Ui, told: dict[str, Any]) -> None:
    from edge_agent.cli.tail import event_line, quality_text, value_text
    from edge_agent.cli.words import ago, table

    lines = table(
        [
            [
                f"{row['device']}/{row['tag']}",
                value_text(row),
                quality_text(row),
                ago(row["age_s"]) if "age_s" in row else "",
            ]
            for row in told["readings"]
        ]
    )
    for line, row in zip(lines, told["readings"], strict=True):
        word = row["quality"]
        ui.result(line.replace(f" {word}", f" {ui.paint(word, _COLOURS[word])}", 1))
    for device in told["unreachable"]:
        ui.error(device["error"], code=device["code"])
        if ui.verbose and device["native"]:
            ui.error(device["native"])
    sent = told["published"]
    ui.result("events that would be sent:" if sent is None else f"{counted(sent, 'event')} sent and confirmed:")
    for event in told["events"]:
        ui.result(f"  {event_line(event)}")
    if not told["events"]:
        ui.result("  none")
