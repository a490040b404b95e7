"""Reads every tag of every device once, and works out which events would come of it.

Devices are read side by side, each until all of its tags have been seen or its time is up. The events are those
of machines that start now: their timers are run ahead, so that a state that must hold for a second is shown too.
"""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from config.model import Config, DeviceOptions
from drivers.base import Batch, Driver, Quality, Reading
from drivers.errors import ConnectionLost, DriverError
from edge_agent.clock import SECOND, Clock, Instant, rfc3339
from edge_agent.events.codec import machine_encoder
from edge_agent.machine.contracts import Outcome
from edge_agent.machine.machine import Machine

RUN_AHEAD = 5 * SECOND
"""How far timers are run ahead after the last reading, in µs."""
EPOCH = "preview"


@dataclass(slots=True)
class Look:
    """What came of one device. `failure` is why it could not be read (to the end)."""

    latest: dict[str, tuple[Reading, int]] = field(default_factory=dict)
    batches: list[tuple[Instant, Batch]] = field(default_factory=list)
    failure: DriverError | None = None


async def look_at(
    devices: Mapping[str, DeviceOptions], open_driver: Callable[[str, DeviceOptions], Driver], clock: Clock
) -> dict[str, Look]:
    """One `Look` for each device, in their order. Raises what is a bug in a driver."""
    looks = {name: Look() for name in devices}
    async with asyncio.TaskGroup() as group:
        for name, options in devices.items():
            group.create_task(
                _read(name, options, open_driver(name, options), clock, looks[name]), name=f"read {name}"
            )
    return looks


async def _read(name: str, options: DeviceOptions, driver: Driver, clock: Clock, look: Look) -> None:
    slowest = max((options.period(tag) for tag in options.tags), default=options.scan)
    try:
        async with asyncio.timeout(max(10 * options.timeout, 20 * SECOND) / SECOND):
            await driver.connect()
        async with asyncio.timeout(max(3 * slowest + 3 * options.timeout, 5 * SECOND) / SECOND):
            while look.latest.keys() < set(options.tags):
                batch = await driver.read()
                now = clock.now()
                look.batches.append((now, batch))
                look.latest.update((reading.tag, (reading, now.wall)) for reading in batch.readings)
    except DriverError as error:
        look.failure = error
    except TimeoutError:
        if not look.latest:
            what = f"{name} ({options.endpoint}) does not answer"
            look.failure = ConnectionLost(what, code="C502", reason="timeout")
    finally:
        await driver.close()


def would_send(config: Config, looks: Mapping[str, Look]) -> list[dict[str, Any]]:
    """The events of machines that start with these readings, as CloudEvents."""
    batches = sorted(
        (moment for look in looks.values() for moment in look.batches), key=lambda moment: moment[0].mono
    )
    if not batches:
        return []
    end = batches[-1][0].mono + RUN_AHEAD
    out: list[dict[str, Any]] = []
    for name in config.machines:
        machine = Machine(config, name, epoch=EPOCH)
        encoder = machine_encoder(config, name, EPOCH)
        outcomes = _outcomes(machine, batches, end)
        out += [json.loads(encoder.encode(event).body) for outcome in outcomes for event in outcome.events]
    return sorted(out, key=lambda event: str(event["time"]))


def _outcomes(machine: Machine, batches: Sequence[tuple[Instant, Batch]], end: int) -> list[Outcome]:
    outcomes = [machine.initial(batches[0][0])]
    for now, batch in batches:
        if batch.device in machine.devices:
            outcomes.append(machine.step(outcomes[-1].state, batch, now))
    last = batches[-1][0]
    while (due := machine.due(outcomes[-1].state)) is not None and due <= end:
        ahead = max(due, last.mono)
        last = Instant(last.wall + ahead - last.mono, ahead)
        outcomes.append(machine.tick(outcomes[-1].state, last))
        again = machine.due(outcomes[-1].state)
        if again is not None and again <= due:
            break
    return outcomes


def rows(config: Config, looks: Mapping[str, Look], now: int) -> list[dict[str, Any]]:
    """Every tag with what was read of it; a tag without a reading has the quality NEVER. `now` is UTC µs."""
    out = []
    for name, options in config.devices.items():
        for tag in options.tags:
            seen = looks[name].latest.get(tag)
            row: dict[str, Any] = {"device": name, "tag": tag, "value": None, "quality": "NEVER", "detail": "",
                                   "unit": options.tags[tag].unit}  # fmt: skip
            if seen is not None:
                reading, at = seen
                when = at if reading.source_time is None else reading.source_time
                row |= {
                    "value": reading.value,
                    "quality": Quality(reading.quality).name,
                    "detail": reading.detail,
                    "read_at": rfc3339(at),
                    "age_s": max(0, now - when) / SECOND,
                }
            out.append(row)
    return out
