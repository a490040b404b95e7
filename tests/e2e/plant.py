"""A small plant for end-to-end tests: a press (node-opcua), an oven (modbus-serial), mosquitto, a strict consumer.

The agent is a real process and reads both. What it must have reported in the end is in the machines' truth logs.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.agent_process import AgentProcess
from tests.e2e.oracle import Ledger
from tests.schema_check import check_message
from tests.servers_modbus import ModbusSerial, modbus_serial
from tests.servers_mqtt import Mosquitto, Sink, mosquitto
from tests.servers_opcua import NodeOpcua, node_opcua

STATUS, FAULT, TOTAL = 0, 1, 10
"""Holding registers of the oven."""
RUNNING, FAILED = 2, 8
"""Values of status, the same on both machines."""

_CONFIG = """\
version: 1
agent: {{id: e2e}}
site: {{enterprise: acme, site: sz1, area: hall}}
mqtt: {{url: "mqtt://127.0.0.1:{broker}", protocol: "{protocol}"}}
buffer: {{path: buffer.db}}

templates:
  kind:
    line: line1
    state: {{from: status, map: {{1: idle, 2: running, 8: fault}}, debounce: {{default: 100ms, fault: 0s}}}}
    counters:
      main: {{total: total, max_rate: 500/s}}
    downtime: {{microstop: 300s, reason: fault, reasons: {{12: {{text: Guard open, category: operator}}}}}}
    comms_timeout: 2s
    settle: 1s
    flush: 1s

machines:
  press-1:
    template: kind
    device:
      driver: opcua
      url: opc.tcp://127.0.0.1:{press}
      security: none
      insecure: true
      publishing: 100ms
      backoff: {{initial: 100ms, max: 500ms}}
      tags:
        status: {{node: 'nsu=urn:acme:press;s=Status', type: int16, sampling: 50ms}}
        fault:  {{node: 'nsu=urn:acme:press;s=FaultCode', type: uint16, sampling: 50ms}}
        total:  {{node: 'nsu=urn:acme:press;s=Total', type: uint16, sampling: 50ms}}
  oven-1:
    template: kind
    device:
      driver: modbus
      url: tcp://127.0.0.1:{oven}
      unit: 1
      scan: 50ms
      timeout: 500ms
      backoff: {{initial: 100ms, max: 500ms}}
      tags:
        status: {{holding: {status}, type: uint16}}
        fault:  {{holding: {fault}, type: uint16}}
        total:  {{holding: {total}, type: uint16}}
{more}"""


@dataclass
class Plant:
    folder: Path
    broker: Mosquitto
    sink: Sink
    press: NodeOpcua
    oven: ModbusSerial
    config: Path

    def agent(self, *prefix: str) -> AgentProcess:
        return AgentProcess(self.config, prefix=prefix)

    async def both_run(self) -> None:
        await self.press.set("Status", RUNNING)
        await self.oven.set(holding={STATUS: RUNNING, FAULT: 0})

    async def both_count(self, rate: float) -> None:
        await self.press.count("Total", rate=rate)
        await self.oven.count("holding", TOTAL, rate=rate)

    async def counted(self) -> dict[str, int]:
        """Stop counting; what each machine has made in its whole life by its own log."""
        await self.press.quiet()
        await self.oven.quiet()
        return {
            "press-1": sum("total" in line for line in self.press.truth()),
            "oven-1": sum("total" in line for line in self.oven.truth()),
        }

    async def settled(self, agent: AgentProcess, made: dict[str, int], limit: float = 30) -> Ledger:
        """Wait until the agent has counted what was made and the broker has confirmed everything; then judge."""

        def done(status: dict[str, Any]) -> bool:
            machines = status["machines"]
            totals = {name: machines[name]["counters"]["main"]["totals"].get("total") for name in made}
            return totals == made and status["buffer"]["rows"] == 0

        await agent.until(done, limit)
        await self.sink.wait_for(lambda messages: self.ledger().totals() == made, limit)
        return self.judge(made)

    def ledger(self) -> Ledger:
        return Ledger().take_all(message.payload for message in self.sink.on("/evt/"))

    def judge(self, made: dict[str, int]) -> Ledger:
        """Every message is valid, nothing is missing, nothing counts twice, nothing was made up."""
        for message in list(self.sink.messages):
            check_message(message.topic, message.payload)
        ledger = self.ledger()
        for machine, parts in made.items():
            assert ledger.counted(machine).get("total", 0) == parts
            ledger.check_downtimes(machine)
            ledger.check_states(machine)
        return ledger


@asynccontextmanager
async def plant(folder: Path, *, protocol: str = "5", more: str = "") -> AsyncIterator[Plant]:
    """Both machines idle at count 0, the broker up, nothing collected yet."""
    async with AsyncExitStack() as stack:
        broker = await stack.enter_async_context(mosquitto(folder))
        oven = await stack.enter_async_context(modbus_serial(folder))
        press = await stack.enter_async_context(node_opcua(folder))
        await oven.set(holding={STATUS: 1, FAULT: 0, TOTAL: 0})
        sink = await stack.enter_async_context(Sink(broker.port))
        config = folder / "edge-agent.yaml"
        config.write_text(
            _CONFIG.format(
                broker=broker.port,
                protocol=protocol,
                press=press.port,
                oven=oven.port,
                status=STATUS,
                fault=FAULT,
                total=TOTAL,
                more=more,
            )
        )
        yield Plant(folder, broker, sink, press, oven, config)
