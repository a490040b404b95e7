"""check: the configuration against real servers and a real broker; publishes nothing and disturbs no agent."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from edge_agent import checking
from edge_agent.cli.exits import ExitCode
from tests.agent_process import agent
from tests.programs import missing
from tests.servers_modbus import modbus_serial
from tests.servers_mqtt import Sink, mosquitto
from tests.servers_opcua import node_opcua, stranger
from tests.waiting import free_port

PLUGINS = ("/usr/lib", "/usr/local/lib")
Run = Callable[..., Result]
HEAD = """\
version: 1
agent: {{id: a1}}
site: {{enterprise: acme, site: sz1, area: hall}}
mqtt: {{url: {broker}{login}}}
buffer: {{path: buffer.db}}
machines:
"""
PRESS = """\
  press-1:
    line: line3
    device:
      driver: opcua
      url: {url}
      tags:
        status:  {{node: 'nsu=urn:acme:press;s=Status', type: int16}}
        fault:   {{node: 'nsu=urn:acme:press;s=FaultCod', type: uint16}}
        total:   {{node: 'nsu=urn:acme:pres;s=Total', type: uint16}}
        reject:  {{node: 'ns=1;s=Rejects', type: uint16}}
        tonnage: {{node: 'nsu=urn:acme:press;s=Tonnage', type: uint16}}
        order:   {{node: 'nsu=urn:acme:press;s=Order', type: string}}
    state: {{from: status, map: {{2: running}}}}
"""
OVEN = """\
  oven-1:
    line: line3
    device:
      driver: modbus
      url: {url}
      scan: 200ms
      tags:
        trays:  {{holding: 200}}
        temp:   {{holding: 300, type: float32}}
        gone:   {{holding: 900}}
        busy:   {{input: 5}}
    state: {{activity: {{counter: main, timeout: 60s}}}}
    counters: {{main: {{good: trays}}}}
"""


async def checked(edge_agent: Run, *arguments: str) -> tuple[int, dict[str, Any]]:
    done = await asyncio.to_thread(edge_agent, "check", *arguments, "-o", "json")
    assert done.stdout, done.stderr
    return done.exit_code, json.loads(done.stdout)


def config(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "edge-agent.yaml"
    path.write_text(text, encoding="utf-8")
    return path


async def test_an_untrusted_server_and_then_each_bad_tag_of_it_is_named_with_its_line_and_its_mend(
    edge_agent: Run, tmp_path: Path
) -> None:
    async with node_opcua(tmp_path) as press, mosquitto(tmp_path) as broker, Sink(broker.port) as sink:
        config(tmp_path, (HEAD + PRESS).format(broker=broker.url, login="", url=press.url))
        code, told = await checked(edge_agent)
        assert code == ExitCode.UNREACHABLE
        assert [(fault["code"], fault["line"], fault["column"]) for fault in told["faults"]] == [("C511", 11, 12)]
        assert "rejected" in told["faults"][0]["message"]
        trusted = await asyncio.to_thread(edge_agent, "cert", "trust", str(press.certificate))
        assert trusted.exit_code == 0, trusted.stderr
        code, told = await checked(edge_agent)
        text = (await asyncio.to_thread(edge_agent, "check")).stderr
        assert sink.messages == [], "nothing is published"
    assert code == ExitCode.PROBLEM
    assert told["broker"]["status"] == "UP"
    (device,) = told["devices"]
    assert (device["status"], device["tags"], device["good"]) == ("UP", 6, 2)
    faults = {(fault["line"], fault["code"]): fault for fault in told["faults"]}
    assert sorted(faults) == [(14, "C521"), (15, "C522"), (16, "C522"), (17, "C523")]
    assert faults[14, "C521"]["fix"] == "did you mean s=FaultCode?"
    assert faults[15, "C522"]["fix"] == "did you mean 'urn:acme:press'?"
    assert faults[16, "C522"]["fix"] == "node: 'nsu=urn:acme:press;s=Rejects'"
    assert "the namespace moved" in faults[16, "C522"]["message"]
    assert faults[17, "C523"]["fix"] == "type: float32"
    assert "edge-agent.yaml:14:25: error C521: press-1/fault: the PLC has no such node s=FaultCod" in text
    assert "^" in text


async def test_registers_that_are_not_there_busy_or_implausible_are_named(edge_agent: Run, tmp_path: Path) -> None:
    async with modbus_serial(tmp_path) as oven:
        await oven.only(1)
        await oven.refuse("holding", 900)
        await oven.refuse("input", 5, code=6)
        await oven.set(holding={300: 0x0000, 301: 0x41BC})
        nowhere = f"mqtt://127.0.0.1:{free_port()}"
        config(tmp_path, (HEAD + OVEN).format(broker=nowhere, login="", url=oven.url))
        code, told = await checked(edge_agent)
        assert await oven.connections() == (1, 0)
    assert code == ExitCode.UNREACHABLE
    assert [(fault["line"], fault["code"]) for fault in told["faults"]] == [
        (15, "C534"), (16, "C532"), (17, "C533"), (4, "B605")
    ]  # fmt: skip
    assert "23.5 with word_order: little" in told["faults"][0]["fix"]
    assert "reference: '40900'" in told["faults"][1]["fix"]


async def test_while_an_agent_holds_the_only_connection_it_is_checked_through_it(
    edge_agent: Run, tmp_path: Path
) -> None:
    async with modbus_serial(tmp_path) as oven, mosquitto(tmp_path) as broker:
        await oven.only(1)
        await oven.refuse("holding", 900)
        text = (HEAD + OVEN).format(broker=broker.url, login="", url=oven.url)
        path = config(tmp_path, text)
        async with agent(path) as running:
            await running.until(
                lambda status: status["devices"]["oven-1"]["readings"] > 0 and status["broker"]["status"] == "UP"
            )
            code, told = await checked(edge_agent)
            assert (code, told["through"], told["broker"]["status"]) == (ExitCode.PROBLEM, "agent", "UP")
            assert [fault["code"] for fault in told["faults"]] == ["C532"]
            for look in (["read", "trays"], ["watch", "oven-1/trays", "-n", "1"], ["browse", "oven-1", "holding/5"]):
                done = await asyncio.to_thread(edge_agent, *look)
                assert done.exit_code == 0, done.stderr
            config(tmp_path, text.replace("        busy:", "        more:    {holding: 7}\n        busy:"))
            code, told = await checked(edge_agent)
            assert [(fault["code"], fault["line"]) for fault in told["faults"]] == [("C532", 16), ("C540", 17)]
            second = OVEN.format(url=f"tcp://localhost:{oven.port}").replace("oven-1", "oven-2")
            config(tmp_path, text + second)
            code, told = await checked(edge_agent)
            assert {device["name"]: device["status"] for device in told["devices"]} == {
                "oven-1": "UP", "oven-2": "UNKNOWN"
            }  # fmt: skip
            assert told["faults"][-1]["code"] == "C540"
            assert await oven.connections() == (1, 0)
            await oven.stop()
            await running.until(lambda status: status["devices"]["oven-1"]["status"] == "DOWN")
            code, told = await checked(edge_agent)
            assert code == ExitCode.UNREACHABLE
            assert told["faults"][0]["code"].startswith("C50")


async def test_a_login_that_the_broker_refuses_or_a_secret_that_is_not_there_is_named(
    edge_agent: Run, tmp_path: Path
) -> None:
    async with (
        modbus_serial(tmp_path) as oven,
        mosquitto(tmp_path, users={"line3": "x"}) as broker,
    ):
        login = ", username: line3, password: {{env: MOM_PASSWORD}}"
        text = (HEAD.replace("{login}", login) + OVEN.replace("300", "400")).format(broker=broker.url, url=oven.url)
        config(tmp_path, text)
        done = {
            name: await asyncio.to_thread(edge_agent, "check", "-o", "json", env={"MOM_PASSWORD": name})
            for name in ("x", "wrong")
        }
        code, told = done["wrong"].exit_code, json.loads(done["wrong"].stdout)
        assert (code, told["faults"][-1]["code"], told["faults"][-1]["line"]) == (ExitCode.UNREACHABLE, "B601", 4)
        assert "'wrong'" not in done["wrong"].stdout
        told = json.loads(done["x"].stdout)
        assert (told["broker"]["status"], told["broker"]["codes"]) == ("UP", [])
        config(tmp_path, text.replace("env: MOM_PASSWORD", "env: NOT_THERE"))
        code, told = await checked(edge_agent)
        assert code == ExitCode.PROBLEM
        assert ([fault["code"] for fault in told["faults"]], told["certificates"]) == (["E313"], [])


def test_a_device_that_is_not_there_does_not_hide_the_others(edge_agent: Run, tmp_path: Path) -> None:
    nowhere = f"tcp://127.0.0.1:{free_port()}"
    unnamed = OVEN.format(url="tcp://plc-1.invalid").replace("oven-1", "oven-2")
    config(tmp_path, (HEAD + OVEN).format(broker="mqtt://127.0.0.1:9", login="", url=nowhere) + unnamed)
    done = edge_agent("check")
    assert done.exit_code == ExitCode.UNREACHABLE
    assert "edge-agent.yaml:11:12: error C501: Cannot connect to oven-1" in done.stderr
    assert "error C503: Cannot connect to oven-2" in done.stderr
    assert "error B605" in done.stderr
    assert "3 problems" in done.stdout
    (tmp_path / "edge-agent.yaml").write_text("version: 2\n")
    assert edge_agent("check").exit_code == ExitCode.BAD_CONFIG


def no_subscriptions(tmp_path: Path) -> list[str]:
    """For mosquitto: everybody may publish and nobody may subscribe. A plain access file refuses no subscription."""
    plugin = next((found for place in PLUGINS for found in Path(place).rglob("mosquitto_dynamic_security.so")), None)
    if plugin is None:
        missing("mosquitto_dynamic_security.so", "mosquitto")
    access = tmp_path / "access.json"
    allowed = {"publishClientSend": True, "publishClientReceive": True, "subscribe": False, "unsubscribe": True}
    access.write_text(
        json.dumps(
            {
                "defaultACLAccess": allowed,
                "clients": [],
                "groups": [{"groupname": "all", "roles": [], "clients": []}],
                "roles": [],
                "anonymousGroup": "all",
            }
        )
    )
    return [f"plugin {plugin}", f"plugin_opt_config_file {access}"]


async def test_a_broker_that_lets_no_command_through_is_named_with_and_without_an_agent(
    edge_agent: Run, tmp_path: Path
) -> None:
    async with modbus_serial(tmp_path) as oven, mosquitto(tmp_path, extra=no_subscriptions(tmp_path)) as broker:
        path = config(tmp_path, (HEAD + OVEN.replace("300", "400")).format(broker=broker.url, login="", url=oven.url))
        code, told = await checked(edge_agent)
        assert (code, told["broker"]["status"], told["broker"]["codes"]) == (ExitCode.PROBLEM, "UP", ["B608"])
        assert "mqtt.commands: false" in told["faults"][-1]["message"]
        async with agent(path) as running:
            await running.until(
                lambda status: status["broker"]["status"] == "UP" and status["broker"]["no_commands"] is not None
            )
            code, told = await checked(edge_agent)
            assert (code, told["through"], told["broker"]["codes"]) == (ExitCode.PROBLEM, "agent", ["B608"])
            seen = await asyncio.to_thread(edge_agent, "status")
            assert seen.exit_code == ExitCode.PROBLEM
            assert "no commands of the MOM are received: B608" in seen.stdout
        path.write_text(path.read_text("utf-8").replace("mqtt: {", "mqtt: {commands: false, "), encoding="utf-8")
        assert (await checked(edge_agent))[0] == 0


async def test_what_a_running_agent_is_connecting_to_is_waited_for_and_then_not_called_down(
    edge_agent: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that takes the connection and says nothing: the agent does not know yet."""
    async with stranger(b"") as url, mosquitto(tmp_path) as broker:
        press = PRESS.format(url=url).replace("type: int16", "type: uint16")
        security = "security: none\n      insecure: true\n      timeout: 60s\n      tags:"
        path = config(tmp_path, (HEAD.format(broker=broker.url, login="") + press.replace("tags:", security, 1)))
        async with agent(path) as running:
            await running.until(lambda status: status["broker"]["status"] == "UP")
            monkeypatch.setattr(checking, "SETTLING", 0.3)
            code, told = await checked(edge_agent)
            assert (code, told["devices"][0]["status"]) == (ExitCode.TRY_AGAIN, "CONNECTING")
            (fault,) = told["faults"]
            assert (fault["code"], fault["line"]) == ("C540", 11)
            assert "still connecting" in fault["message"]


async def test_an_agent_that_has_just_been_started_is_given_time_to_know() -> None:
    answers = ["CONNECTING", "CONNECTING", "UP"]
    waited: list[str] = []

    def ask() -> dict[str, Any]:
        return {"devices": {"oven-1": {"status": answers.pop(0)}}, "broker": {"status": "UP"}}

    status = await checking.settled(ask, waited.append)
    assert (status["devices"]["oven-1"]["status"], answers) == ("UP", [])
    assert waited == ["the agent to connect to oven-1"] * 2


async def test_a_secret_that_is_not_there_is_told_once(edge_agent: Run, tmp_path: Path) -> None:
    async with modbus_serial(tmp_path) as oven:
        login = ", username: a, password: {{env: NOT_THERE}}"
        text = HEAD.replace("{login}", login) + OVEN.replace("300", "400")
        config(tmp_path, text.format(broker=f"mqtt://127.0.0.1:{free_port()}", url=oven.url))
        done = await asyncio.to_thread(edge_agent, "check")
    assert (done.stdout + done.stderr).count("NOT_THERE is not set") == 1, done.stderr
    assert "1 problem\n" in done.stdout
