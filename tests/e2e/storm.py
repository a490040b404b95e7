"""Agents that are killed again and again, each on a line of its own, while its PLC goes on by its own log.

A line is a PLC that runs, counts and stops; an agent that reads it; and the MOM's part of the broker. The agents are
real: `edge-agent run` as a process of its own, or forked where its imports are already made (`zygote`). Now and then
an agent lives until it has sent everything, and the oracle judges what the MOM holds.
"""

import asyncio
import os
import random
import re
import signal
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.agent_process import ROOT, AgentProcess
from tests.mom_database import MomDatabase
from tests.reconcile import Truth, check_downtimes, check_numbers, check_order, check_parts, truth
from tests.servers_modbus import ModbusSerial
from tests.servers_mqtt import Sink
from tests.waiting import until

IDLE, RUNNING, FAILED = 1, 2, 8
STATUS, FAULT, TOTAL = 0, 1, 10
_LINE: Final = re.compile(r"(?:press|storm)-(\d+)/")
SETTLED_WITHIN: Final = 90
"""Seconds, on a machine that has other work."""
_CONFIG = """\
version: 1
agent: {{id: storm-{line}}}
site: {{enterprise: acme, site: sz1, area: hall}}
mqtt: {{url: "mqtt://127.0.0.1:{broker}", commands: false}}
buffer: {{path: buffer.db, keep_sent: 1s}}
http: false
machines:
  press-{line}:
    line: line1
    device:
      driver: modbus
      url: tcp://127.0.0.1:{plc}
      unit: 1
      scan: 50ms
      timeout: 2s
      backoff: {{initial: 10ms, max: 100ms}}
      tags:
        status: {{holding: {status}, type: uint16}}
        fault:  {{holding: {fault}, type: uint16}}
        total:  {{holding: {total}, type: uint32}}
    state: {{from: status, map: {{1: idle, 2: running, 8: fault}}, debounce: {{default: 0s}}}}
    counters:
      main: {{total: total, max_rate: 1000/s}}
    downtime: {{microstop: 1s, reason: fault, reasons: {{12: {{text: Guard open, category: operator}}}}}}
    comms_timeout: 5s
    flush: 1s
"""


class ForkedAgent(AgentProcess):
    """An agent forked by a process that lives as long as the line."""

    _forge: asyncio.subprocess.Process | None = None
    _pid: int | None = None

    async def start(self, *, ready: bool = True) -> None:
        if self._forge is None:
            self._forge = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tests.e2e.zygote", cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
        assert self._forge.stdin is not None
        self._forge.stdin.write(f"{self.config}\n".encode())
        self._pid = int(await self._line())
        if ready:
            await self.until(lambda status: True)

    @property
    def pid(self) -> int:
        assert self._pid is not None
        return self._pid

    @property
    def running(self) -> bool:
        return self._pid is not None

    async def kill(self) -> None:
        if self._pid is not None:
            os.kill(self._pid, signal.SIGKILL)
            await self.wait()

    async def wait(self, limit: float = 20.0) -> int:
        async with asyncio.timeout(limit):
            word, status = (await self._line()).split()
        assert word == "ended"
        self._pid = None
        return os.waitstatus_to_exitcode(int(status))

    async def close(self) -> None:
        await self.kill()
        if self._forge is not None:
            assert self._forge.stdin is not None
            self._forge.stdin.close()
            await self._forge.wait()

    async def _line(self) -> str:
        assert self._forge is not None
        assert self._forge.stdout is not None
        return (await self._forge.stdout.readline()).decode().strip()


@dataclass
class Line:
    """One PLC with its agent and what the MOM holds of it."""

    number: int
    folder: Path
    plc: ModbusSerial
    broker: int
    mom: MomDatabase
    dice: random.Random
    counted: Counter[str] = field(default_factory=Counter)
    """killed, parts, stops"""
    _over: asyncio.Event = field(default_factory=asyncio.Event)
    _told_before: int | None = None
    """Downtimes that the MOM knew when the PLC stopped; None while it runs."""

    @property
    def config(self) -> Path:
        return self.folder / "edge-agent.yaml"

    def write_config(self) -> None:
        places = {"status": STATUS, "fault": FAULT, "total": TOTAL}
        self.config.write_text(_CONFIG.format(line=self.number, broker=self.broker, plc=self.plc.port, **places))

    async def begin(self, agent: AgentProcess) -> None:
        """The agent has seen the PLC at count 0: what is made from now on must be counted."""
        await self.plc.set(holding={STATUS: IDLE})
        self._told_before = 0
        await agent.start()
        await self._stop_is_told()
        await agent.kill()

    async def _start_takes(self, agent: AgentProcess) -> float:
        """Seconds from the start of a process to the first answer of the agent. It sees a stop that has begun."""
        began = asyncio.get_running_loop().time()
        await agent.start()
        took = asyncio.get_running_loop().time() - began
        await self._stop_is_told()
        await agent.kill()
        return took

    async def _stop_is_told(self) -> None:
        """Before the PLC goes on: a stop that no agent has lived to see is no downtime."""
        await until(lambda: self._told_before is None or self._told() > self._told_before, SETTLED_WITHIN)

    def _told(self) -> int:
        return self.mom.count_of("downtime.started")

    async def storm(self, agent: AgentProcess, kills: int) -> None:
        """Start and kill while the PLC works: a life ends at any moment up to 1.3 times what a start takes now."""
        longest = 1.3 * await self._start_takes(agent)
        self._over.clear()
        work = asyncio.create_task(self._work())
        try:
            for _ in range(kills):
                await agent.start(ready=False)
                await asyncio.sleep(self.dice.uniform(0.003, longest))  # noqa: TID251 - the moment of the kill
                with suppress(ProcessLookupError):
                    os.kill(agent.pid, signal.SIGKILL)
                code = await agent.wait()
                assert code == -signal.SIGKILL, f"the agent ended by itself with {code}:\n{agent.tail()}"
                self.counted["killed"] += 1
        finally:
            self._over.set()
            await work

    async def _work(self) -> None:
        """The PLC's day: it runs and counts, and stands with a fault for long enough to be seen."""
        while True:
            await self._produce()
            await asyncio.sleep(0.5)  # noqa: TID251 - long enough to make a part, or two stops would be one
            await self._pass(self.dice.uniform(0, 4))
            if self._over.is_set():
                return
            await self._count(0)
            self._told_before = self._told()
            await self.plc.set(holding={STATUS: FAILED, FAULT: 12})
            await self._pass(self.dice.uniform(0.5, 4))
            while self._told() == self._told_before:
                if self._over.is_set():
                    return
                await self._pass(0.1)

    async def _produce(self) -> None:
        await self.plc.set(holding={STATUS: RUNNING, FAULT: 0})
        self._told_before = None
        await self._count(self.dice.choice((5, 20, 50, 100)))

    async def _count(self, rate: float) -> None:
        await self.plc.count("holding", TOTAL, rate=rate, words=2, wrap=1 << 32)

    async def _pass(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._over.wait(), seconds)

    async def settle(self, agent: AgentProcess) -> None:
        """Let the PLC run and come to rest at a count, and the agent tell all; then judge."""
        await agent.start()
        await self._stop_is_told()
        await self._produce()
        await agent.until(lambda status: status["machines"][self.machine].get("state") == "running", SETTLED_WITHIN)
        await self._count(0)
        done = truth(self.plc.truth(), total=TOTAL, status=STATUS, running=RUNNING)

        def has_told(status: dict[str, Any]) -> bool:
            counters = status["machines"][self.machine]["counters"]
            return counters["main"]["totals"].get("total", 0) >= done.parts and status["buffer"]["rows"] == 0

        await agent.until(has_told, SETTLED_WITHIN)
        await self._judged(done)
        await agent.kill()
        self.counted.update(parts=done.parts - self.counted["parts"], stops=len(done.stops) - self.counted["stops"])

    async def _judged(self, done: Truth) -> None:
        """What is confirmed may still be on its way, or wait for the next flush."""
        for left in reversed(range(SETTLED_WITHIN)):
            try:
                self.judge(done)
                return
            except AssertionError:
                if not left:
                    raise
            await asyncio.sleep(1)  # noqa: TID251 - the MOM tells nobody that it has stored

    def judge(self, done: Truth) -> None:
        check_order(self.mom)
        assert check_numbers(self.mom) == 0, "nothing may be given up here"
        check_parts(self.mom, self.machine, done.parts)
        check_downtimes(self.mom, self.machine, done.stops)

    @property
    def machine(self) -> str:
        return f"press-{self.number}"


def deliver(sink: Sink, lines: Mapping[int, Line]) -> None:
    """Give each line's MOM what has come for it."""
    of: dict[int, list[tuple[str, bytes]]] = defaultdict(list)
    for message in sink.taken():
        number = _LINE.search(message.topic)
        assert number is not None, message.topic
        of[int(number[1])].append((message.topic, message.payload))
    for number, messages in of.items():
        lines[number].mom.take(messages)
