"""SIGTERM: what is stored is committed, the broker gets a farewell, and the program ends within seconds with 0,
whatever hangs. The limits here are wider than the promised five seconds: the machine that tests has other work."""

import asyncio
import signal
import socket
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.agent_process import AgentProcess, agent
from tests.bad_cable import Fault, bad_cable
from tests.programs import find_program
from tests.servers_mqtt import Sink, mosquitto
from tests.waiting import free_port, until

LIMIT = 20.0
HANGING = "stopped without waiting"
_CONFIG = """\
version: 1
agent: {{id: a1}}
site: {{enterprise: acme, site: sz1, area: hall}}
mqtt: {{url: "mqtt://127.0.0.1:{broker}"}}
buffer: {{path: buffer.db}}
machines:
  press-1:
    line: line1
    state: {{from: status, map: {{2: running, 8: fault}}}}
    counters: {{main: {{total: total, max_rate: 10000/s}}}}
    device:
      driver: simulated
      scan: 100ms
      tags: {{status: {{kind: cycle, values: [2, 8], every: 1s}}, total: {{kind: counter}}}}
"""
_HANGING = """\
  press-2:
    line: line1
    state: {{from: status, map: {{2: running, 8: fault}}}}
    device:
      driver: opcua
      url: "opc.tcp://127.0.0.1:{device}"
      timeout: 2min
      security: none
      insecure: true
      tags: {{status: {{node: "ns=2;s=x", type: int16}}}}
"""
DISK = """
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>
static int sync_or_hang(void) {
    int file = open(getenv("HANGS"), O_WRONLY);
    if (file < 0) return 0;
    if (write(file, "x", 1) == 1) sleep(600);
    return 0;
}
int fdatasync(int fd) { return sync_or_hang(); }
int fsync(int fd) { return sync_or_hang(); }
"""
"""Syncs nothing; once there is a file HANGS it notes there that it was asked to, and hangs."""


def configuration(folder: Path, broker: int, device: int | None = None) -> Path:
    file = folder / "edge-agent.yaml"
    file.write_text(_CONFIG.format(broker=broker) + ("" if device is None else _HANGING.format(device=device)))
    return file


def stored(folder: Path) -> tuple[list[str], bool]:
    """The types of the stored events in their order, and whether the stop was a clean one."""
    with sqlite3.connect(folder / "buffer.db") as database:
        types = [kind for (kind,) in database.execute("SELECT type FROM message ORDER BY position")]
        clean = database.execute("SELECT count(*) FROM meta WHERE key = 'clean_stop'").fetchone() == (1,)
    database.close()
    return types, clean


async def stop(process: AgentProcess) -> None:
    assert await process.terminate(LIMIT) == 0, process.tail()


async def test_a_stop_commits_says_goodbye_and_ends(tmp_path: Path) -> None:
    async with mosquitto(tmp_path) as broker, Sink(broker.port) as sink:
        async with agent(configuration(tmp_path, broker.port)) as process:
            await process.until(lambda status: status["broker"]["confirmed"] > 3)
            await stop(process)
            assert HANGING not in process.tail()
        await sink.wait_for(lambda _: sink.on("/evt/agent") and "stopped" in sink.on("/evt/agent")[-1].json["type"])
        assert not sink.on("/status")[-1].json["online"]
    types, clean = stored(tmp_path)
    assert (types[-1], clean) == ("agent.stopped", True)


async def a_broker_swallows_everything(tmp_path: Path) -> None:
    async with (
        mosquitto(tmp_path) as broker,
        bad_cable(broker.port) as cable,
        agent(configuration(tmp_path, cable.port)) as process,
    ):
        await process.until(lambda status: status["broker"]["confirmed"] > 3)
        cable.bring(Fault.BLACK_HOLE)
        confirmed = (await process.until(lambda status: True))["broker"]["confirmed"]
        await process.until(lambda status: status["buffer"]["rows"] > 0)
        await stop(process)
        assert HANGING not in process.tail()
    types, clean = stored(tmp_path)
    assert (types[-1], clean) == ("agent.stopped", True)
    assert len(types) > confirmed


async def a_device_hangs_in_connect(tmp_path: Path) -> None:
    with silent_port() as device:
        async with agent(configuration(tmp_path, free_port(), device)) as process:
            await process.until(lambda status: status["devices"]["press-1"]["batches"] > 1)
            await stop(process)
            assert HANGING not in process.tail()
    types, clean = stored(tmp_path)
    assert (types[-1], clean) == ("agent.stopped", True)


async def the_disk_hangs(tmp_path: Path) -> None:
    """What was committed is there, and until the stop `status` answers from memory."""
    source, disk, hangs = tmp_path / "disk.c", tmp_path / "disk.so", tmp_path / "hangs"
    source.write_text(DISK)
    compile_ = [find_program("cc"), "-shared", "-fPIC", "-o", str(disk), str(source)]
    await asyncio.to_thread(subprocess.run, compile_, check=True)
    prefix = ["env", f"LD_PRELOAD={disk}", f"HANGS={hangs}"]
    async with agent(configuration(tmp_path, free_port()), prefix=prefix) as process:
        await process.until(lambda status: status["buffer"]["rows"] > 3)
        hangs.touch()
        await until(lambda: hangs.read_text(), what="the disk hangs")
        hung = await process.until(lambda status: status["buffer"]["silent_s"] is not None)
        assert hung["buffer"]["rows"] > 3
        await stop(process)
        assert HANGING in process.tail()
    types, clean = stored(tmp_path)
    assert types[0] == "agent.started"
    assert not clean


@pytest.mark.needs("cc")
async def test_whatever_hangs_does_not_hold_a_stop(tmp_path: Path) -> None:
    """All at once, each with an agent of its own: a stop is mostly waiting."""
    async with asyncio.TaskGroup() as group:
        for hangs in (a_broker_swallows_everything, a_device_hangs_in_connect, the_disk_hangs):
            folder = tmp_path / hangs.__name__
            folder.mkdir()
            group.create_task(hangs(folder), name=hangs.__name__)


async def test_a_stop_during_the_start_ends_it_and_the_next_start_works(tmp_path: Path) -> None:
    """At moments of the loading, and while the buffer is made and opened."""
    file = configuration(tmp_path, free_port())
    buffer, log = tmp_path / "buffer.db", tmp_path / "edge-agent.log"
    for moment in (0.2, 0.5, buffer.with_name("buffer.db-wal")):
        process = AgentProcess(file)
        await process.start(ready=False)
        if isinstance(moment, Path):
            await until(moment.exists, limit=LIMIT)
        else:
            await asyncio.sleep(moment)  # noqa: TID251 - somewhere in the start of another process
        code = await process.terminate(LIMIT)
        assert code == 0 or (code == -signal.SIGTERM and not buffer.exists()), process.tail()
        assert "Traceback" not in log.read_text()
        assert HANGING not in log.read_text()
    async with agent(file) as process:
        await process.until(lambda status: status["devices"]["press-1"]["batches"] > 1)
        await stop(process)
    assert stored(tmp_path)[1]


@contextmanager
def silent_port() -> Iterator[int]:
    """Connections are made there, and nobody ever answers."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        yield deaf.getsockname()[1]
