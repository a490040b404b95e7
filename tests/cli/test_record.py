"""record: from devices without an agent, and through an agent that runs."""

import asyncio
import csv
import json
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from typer.testing import Result

from edge_agent.cli.exits import ExitCode
from tests.servers_modbus import HostilePeer, ModbusSerial, frame, modbus_serial
from tests.waiting import until

from .conftest import PROGRAM, program

MODBUS = """\
version: 1
agent: {{id: a1}}
site: {{enterprise: acme, site: sz1, area: stamping}}
mqtt: {{url: mqtt://127.0.0.1:9}}
machines:
  oven-1:
    line: line3
    device:
      driver: modbus
      url: tcp://127.0.0.1:{port}
      unit: 1
      scan: 50ms
      timeout: 300ms
      backoff: {{initial: 50ms, max: 100ms}}
      tags:
        status: {{holding: 0, type: uint16}}
        trays:  {{holding: 1, type: uint16}}
    state:
      from: status
      map: {{1: idle, 2: running, 8: fault}}
      debounce: {{default: 100ms, fault: 0s}}
    counters:
      main: {{good: trays, max_rate: 100/s}}
"""


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@asynccontextmanager
async def started(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*PROGRAM, *arguments, stderr=pipe, stdout=pipe)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def says(process: asyncio.subprocess.Process, words: str) -> None:
    assert process.stderr is not None
    said = []
    async with asyncio.timeout(20):
        async for line in process.stderr:
            said.append(line.decode())
            if words in said[-1]:
                return
    pytest.fail(f"it never said {words!r}:\n{''.join(said)}")


async def read_by(plc: ModbusSerial) -> None:
    """Return when the recorder has read everything again."""
    async with asyncio.timeout(20):
        already = await plc.requests()
        while await plc.requests() < already + 8:
            pass


def machine_events(result: Result) -> list[dict]:
    assert result.exit_code == 0, result.stderr
    events = [json.loads(line) for line in result.stdout.splitlines()]
    return [event for event in events if not event["source"].endswith("$agent.h")]


def test_the_simulated_machine_is_recorded_and_its_file_replays(
    edge_agent: Callable[..., Result], configuration: Path
) -> None:
    done = program("record", str(configuration), "shift.csv", "--for", "1500ms", cwd=configuration.parent)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    recorded = rows(configuration.parent / "shift.csv")
    assert {row["tag"] for row in recorded} == {"press-1/status", "press-1/total", "press-1/note"}
    assert [row["value"] for row in recorded if row["tag"] == "press-1/status"][:3] == ["2", "8", "2"]
    assert [row["value"] for row in recorded if row["tag"] == "press-1/note"][:1] == ["急停"]
    totals = [int(row["value"]) for row in recorded if row["tag"] == "press-1/total"]
    replayed = machine_events(edge_agent("replay", str(configuration), "shift.csv"))
    counted = [event["data"]["delta"]["total"] for event in replayed if ".counted" in event["type"]]
    assert sum(counted) <= totals[-1] - totals[0]
    assert next(event["data"]["state"] for event in replayed if ".changed" in event["type"]) == "running"


async def test_what_a_modbus_machine_did_is_told_again_by_its_recording(
    tmp_path: Path, edge_agent: Callable[..., Result]
) -> None:
    async with modbus_serial(tmp_path) as plc:
        file = tmp_path / "oven.yaml"
        file.write_text(MODBUS.format(port=plc.port), encoding="utf-8")
        await plc.set(holding={0: 2, 1: 10})
        out = tmp_path / "oven.csv"

        def seen(tag: str, value: str) -> Callable[[], bool]:
            return lambda: out.exists() and any((row["tag"], row["value"]) == (tag, value) for row in rows(out))

        async with started("record", str(file), str(out)) as recorder:
            await says(recorder, "recording oven-1")
            await read_by(plc)
            await plc.set(holding={1: 15})
            await read_by(plc)
            await plc.set(holding={0: 8})
            await read_by(plc)
            await plc.stop()
            await until(seen("device", "lost oven-1"), what="the loss")
            await plc.start()
            await plc.set(holding={0: 2, 1: 17})
            await until(seen("device", "back oven-1"), what="the return")
            recorder.send_signal(signal.SIGINT)
            _, err = await recorder.communicate()
        assert recorder.returncode == ExitCode.INTERRUPTED
        assert b"Traceback" not in err
    events = machine_events(edge_agent("replay", str(file), str(out)))
    counted = [event["data"] for event in events if ".counted" in event["type"]]
    assert counted[0]["delta"] == {"total": 5, "good": 5}
    assert [event["data"]["state"] for event in events if ".state." in event["type"]][:2] == ["running", "fault"]
    assert any(".downtime.started" in event["type"] for event in events)


async def test_a_running_agent_is_used_and_the_device_sees_one_connection(
    tmp_path: Path, edge_agent: Callable[..., Result]
) -> None:
    registers = {0: 2, 1: 10}

    def behave(asked):
        data = b"".join(registers[n].to_bytes(2, "big") for n in range(asked.start, asked.start + asked.count))
        return frame(asked.transaction, asked.unit, bytes([asked.function, len(data)]) + data)

    async with HostilePeer(behave) as plc:
        file = tmp_path / "oven.yaml"
        file.write_text(MODBUS.format(port=plc.port), encoding="utf-8")
        out = tmp_path / "oven.jsonl"
        async with started("run", str(file)) as agent:
            await says(agent, "oven-1 (127.0.0.1")
            async with started("record", str(file), str(out), "-m", "oven-1") as recorder:
                await says(recorder, "through the agent that runs")
                await until(lambda: out.exists() and '"oven-1/trays": 10' in out.read_text(), what="first values")
                registers[1] = 13
                await until(lambda: '"oven-1/trays": 13' in out.read_text(), what="the count")
                recorder.send_signal(signal.SIGTERM)
                _, err = await recorder.communicate()
                assert recorder.returncode == 0, err.decode()
            assert plc.connections == 1
            async with started("record", str(file), str(tmp_path / "end.csv")) as recorder:
                await says(recorder, "through the agent that runs")
                agent.send_signal(signal.SIGTERM)
                _, err = await recorder.communicate()
                assert recorder.returncode == 0, err.decode()
                assert b"the agent has stopped" in err
    counted = [
        event for event in machine_events(edge_agent("replay", str(file), str(out))) if ".counted" in event["type"]
    ]
    assert [event["data"]["delta"] for event in counted] == [{"total": 3, "good": 3}]


def test_a_file_that_exists_is_not_overwritten(edge_agent: Callable[..., Result], configuration: Path) -> None:
    out = configuration.parent / "old.csv"
    out.write_text("mine", encoding="utf-8")
    done = edge_agent("record", str(configuration), str(out), "--for", "100ms")
    assert done.exit_code == ExitCode.WILL_NOT_OVERWRITE
    assert "--force" in done.stderr
    assert out.read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize(("more", "words"), [(["--for", "10"], "--for"), (["-m", "pres-1"], "there is no machine")])
def test_what_cannot_be_recorded_is_said(
    edge_agent: Callable[..., Result], configuration: Path, more: list[str], words: str
) -> None:
    done = edge_agent("record", str(configuration), "new.csv", *more)
    assert done.exit_code == ExitCode.USAGE
    assert words in done.stderr
    assert not (configuration.parent / "new.csv").exists()
