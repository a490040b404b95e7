"""The OPC UA driver against a server written by others: node-opcua as a process."""

import asyncio
import itertools
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from drivers.base import Batch, Quality, Reading
from drivers.errors import ConnectionLost, DriverError
from drivers.opcua import subscription
from drivers.opcua.options import OpcuaDevice
from drivers.opcua.polling import Polling
from drivers.opcua.session import POLICIES
from tests.drivers.opcua_reading import connections, latest
from tests.servers_opcua import NodeOpcua, cable, make_certificate, node_opcua

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.needs("node")]

TYPES = {
    "Status": "int16",
    "FaultCode": "uint16",
    "Total": "uint16",
    "Rejects": "uint16",
    "Order": "string",
    "Tonnage": "float32",
}
UNPROTECTED = {"security": "none", "insecure": True}


def device(press: NodeOpcua, *names: str, queue: int | None = None, **settings: Any) -> OpcuaDevice:
    tags = {
        name: {"node": f"nsu=urn:acme:press;s={name}", "type": TYPES.get(name, "float64"), "queue": queue}
        for name in names or TYPES
    }
    return OpcuaDevice.model_validate(
        {"url": press.url, "publishing": "50ms", "sampling": "20ms", "timeout": "10s", "tags": tags}
        | (settings if "security" in settings else UNPROTECTED | settings)
    )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def press(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[NodeOpcua]:
    users = {"joe": "hunter2"}
    folder = tmp_path_factory.mktemp("press")
    make_certificate(folder, "operator", "urn:acme:operator")
    (folder / "pki/users/trusted/certs").mkdir(parents=True)
    shutil.copy(folder / "operator.pem", folder / "pki/users/trusted/certs")
    async with node_opcua(folder, users=users, namespaces=2, maxSessions=5) as running:
        yield running


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The agent's certificate, made once."""
    return tmp_path_factory.mktemp("pki")


@pytest_asyncio.fixture(loop_scope="module")
async def connect() -> AsyncIterator[Callable[..., Any]]:
    async with connections() as connected:
        yield connected


async def gathered(opened: Any, enough: Callable[[list[Batch]], object]) -> list[Batch]:
    batches: list[Batch] = []
    async with asyncio.timeout(15):
        while not enough(batches):
            batches.append(await opened.read())
    return batches


async def refusal(connect: Callable[..., Any], options: OpcuaDevice) -> DriverError:
    with pytest.raises(DriverError) as raised:
        await connect(options)
    assert "press-1" in str(raised.value)
    assert options.endpoint in str(raised.value)
    assert raised.value.reason == "auth"
    return raised.value


async def test_every_tag_of_the_press_is_read_with_the_servers_own_time(press: NodeOpcua, connect: Any) -> None:
    opened = await connect(device(press))
    await press.set("Status", 2)
    await press.set("Order", "WO-1 ä 你好", time=1_772_452_800_250)
    found = await latest(opened, lambda r: len(r) == 6 and r["Order"].value and r["Status"].value == 2)
    assert found["Order"] == Reading("Order", "WO-1 ä 你好", Quality.GOOD, 1_772_452_800_250_000)
    assert {reading.quality for reading in found.values()} == {Quality.GOOD}


async def test_quality_and_its_name_come_from_the_server(press: NodeOpcua, connect: Any) -> None:
    opened = await connect(device(press, "Tonnage"))
    await press.set("Tonnage", 1.5, status="BadSensorFailure")
    found = await latest(opened, lambda r: r and r["Tonnage"].quality is Quality.BAD)
    assert (found["Tonnage"].value, found["Tonnage"].detail) == (None, "BadSensorFailure")
    await press.set("Tonnage", 2.5, status="UncertainLastUsableValue")
    found = await latest(opened, lambda r: r and r["Tonnage"].quality is Quality.UNCERTAIN)
    assert (found["Tonnage"].value, found["Tonnage"].detail) == (2.5, "UncertainLastUsableValue")
    await press.set("Tonnage", 3.5)
    assert (await latest(opened, lambda r: r and r["Tonnage"].value == 3.5))["Tonnage"].quality is Quality.GOOD


async def test_what_the_press_counts_arrives_in_order_and_adds_up(press: NodeOpcua, connect: Any) -> None:
    await press.set("Total", 65_500)
    opened = await connect(device(press, "Total", sampling="10ms", queue=100))
    await latest(opened, lambda r: "Total" in r)
    await press.count("Total", rate=40)
    seen: list[int] = [65_500]

    async def read() -> None:
        while True:
            seen.extend(reading.value for reading in (await opened.read()).readings)

    reading = asyncio.create_task(read())
    await asyncio.wait([reading], timeout=1.5)
    total = (await press.quiet())["Total"]
    await asyncio.wait([reading], timeout=0.5)
    reading.cancel()
    await asyncio.wait([reading])
    steps = [(after - before) % 65_536 for before, after in itertools.pairwise(seen)]
    assert total > 10
    assert sum(steps) == total
    assert max(steps) < 30_000, "a value came twice or late"
    assert [line["total"] for line in press.truth() if "total" in line][-1] == total


async def test_values_that_the_server_had_to_drop_are_named(press: NodeOpcua, connect: Any) -> None:
    opened = await connect(device(press, "Rejects", "Status", publishing="400ms", sampling="10ms", queue=2))
    await latest(opened, lambda r: len(r) == 2)
    await press.count("Rejects", rate=50)
    batches = await gathered(opened, lambda found: found and found[-1].overflow)
    await press.quiet()
    assert batches[-1].overflow == {"Rejects"}


async def test_a_node_may_come_go_and_come_again(
    press: NodeOpcua, connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscription, "RETRY", 0.2)
    opened = await connect(device(press, "Status", "Speed"))
    found = await latest(opened, lambda r: len(r) == 2)
    assert found["Speed"] == Reading("Speed", None, Quality.BAD, None, "BadNodeIdUnknown")
    assert found["Status"].quality is Quality.GOOD
    for value in (1.5, 2.5):
        await press.tell("add", node="Speed", type="Double", value=value)
        found = await latest(opened, lambda r: "Speed" in r and r["Speed"].quality is Quality.GOOD)
        assert found["Speed"].value == value
        await press.tell("remove", node="Speed")
        await latest(opened, lambda r: "Speed" in r and r["Speed"].quality is Quality.BAD)
    await press.set("Status", 8)
    await latest(opened, lambda r: "Status" in r and r["Status"].value == 8)


@pytest.mark.parametrize("mode", ["SignAndEncrypt", "Sign"])
@pytest.mark.parametrize(
    "policy", [policy for policy in POLICIES if policy != "Basic128Rsa15"]
)  # Node.js cannot any more
async def test_a_trusted_server_is_read_with_every_policy_and_mode(
    press: NodeOpcua, connect: Any, pki: Path, policy: str, mode: str
) -> None:
    security = {"policy": policy, "mode": mode, "pki": str(pki), "trust": str(press.certificate)}
    weak = policy in ("Basic256", "Basic128Rsa15")
    opened = await connect(device(press, security=security, insecure=mode == "Sign" or weak))
    value = 17 + len(policy) + len(mode)
    await press.set("FaultCode", value)
    assert await latest(opened, lambda r: len(r) == 6 and r["FaultCode"].value == value)


async def test_an_unknown_server_is_refused_until_its_certificate_is_moved(
    press: NodeOpcua, connect: Any, tmp_path: Path
) -> None:
    options = device(press, "Total", security={"pki": str(tmp_path)})
    error = await refusal(connect, options)
    assert error.code == "C511"
    (file,) = (tmp_path / "rejected").iterdir()
    assert str(file) in str(error)
    assert "edge-agent cert trust" in str(error)
    (tmp_path / "trusted").mkdir()
    shutil.move(file, tmp_path / "trusted")
    opened = await connect(options)
    await latest(opened, lambda r: "Total" in r)


async def test_one_short_lived_session_is_all_that_is_asked_of_a_small_plc(
    press: NodeOpcua, connect: Any, pki: Path
) -> None:
    async def settled() -> dict[str, Any]:
        """Once channels that are being closed are closed: of an earlier test, and of the look at the endpoints."""
        async with asyncio.timeout(20):
            while (there := await press.tell("sessions"))["channels"] > there["sessions"]:
                pass
        return there

    before = await settled()
    opened = await connect(device(press, "Total", security={"pki": str(pki), "trust": str(press.certificate)}))
    await latest(opened, lambda r: "Total" in r)
    there = await settled()
    assert there["sessions"] == before["sessions"] + 1
    assert there["channels"] == before["channels"] + 1
    assert set(there["timeouts"]) == {30_000}


async def test_another_servers_certificate_is_not_enough(press: NodeOpcua, connect: Any, tmp_path: Path) -> None:
    make_certificate(tmp_path / "other", "press", "urn:acme:press-server")
    trust = tmp_path / "other" / "press.der"
    error = await refusal(connect, device(press, security={"pki": str(tmp_path), "trust": str(trust)}))
    assert error.code == "C511"
    assert str(trust) in str(error)


@pytest.mark.parametrize("protected", [True, False])
async def test_a_user_is_let_in_with_the_right_password(
    press: NodeOpcua, connect: Any, tmp_path: Path, protected: bool
) -> None:
    trusted = {"security": {"pki": str(tmp_path), "trust": str(press.certificate)}}
    settings = trusted if protected else UNPROTECTED
    opened = await connect(device(press, identity={"username": "joe", "password": "hunter2"}, **settings))
    assert await latest(opened, lambda r: len(r) == 6)
    error = await refusal(connect, device(press, identity={"username": "joe", "password": "wrong"}, **settings))
    assert error.code == "C513"
    assert "'joe'" in str(error)
    assert "wrong" not in str(error) + error.native


@pytest.mark.parametrize("protected", [True, False])
async def test_a_user_is_let_in_with_a_certificate_that_the_server_trusts(
    press: NodeOpcua, connect: Any, tmp_path: Path, protected: bool
) -> None:
    trusted = {"security": {"pki": str(tmp_path), "trust": str(press.certificate)}}
    settings = trusted if protected else UNPROTECTED
    known = press.folder / "operator"
    identity = {"certificate": f"{known}.pem", "key": f"{known}.key"}
    opened = await connect(device(press, identity=identity, **settings))
    assert await latest(opened, lambda r: len(r) == 6)
    make_certificate(tmp_path, "stranger", "urn:acme:stranger")
    identity = {"certificate": str(tmp_path / "stranger.der"), "key": str(tmp_path / "stranger.key")}
    error = await refusal(connect, device(press, identity=identity, **settings))
    assert error.code == "C513"
    assert identity["certificate"] in str(error)


async def test_a_certificate_without_its_key_is_told(press: NodeOpcua, connect: Any, tmp_path: Path) -> None:
    make_certificate(tmp_path, "operator", "urn:acme:operator")
    make_certificate(tmp_path, "other", "urn:acme:other")
    identity = {"certificate": str(tmp_path / "operator.pem"), "key": str(tmp_path / "other.key")}
    error = await refusal(connect, device(press, identity=identity))
    assert error.code == "C513"
    assert "is not the RSA key of" in str(error)


async def test_a_misspelt_node_is_told_with_the_names_near_to_it(
    press: NodeOpcua, connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscription, "RETRY", 0.1)
    tags = {"fault": {"node": "nsu=urn:acme:press;s=FaultCod", "type": "uint16"}}
    opened = await connect(device(press, tags=tags))
    found = await latest(opened, lambda r: "C521" in r["fault"].detail if r else False)
    assert found["fault"].detail == "BadNodeIdUnknown: C521, the PLC has no node s=FaultCod; near: s=FaultCode"


async def test_values_are_polled_where_that_is_wished(press: NodeOpcua, connect: Any) -> None:
    opened = await connect(device(press, polling=True))
    await press.set("Status", 7)
    found = await latest(opened, lambda r: len(r) == 6 and r["Status"].value == 7)
    assert {reading.quality for reading in found.values()} == {Quality.GOOD}
    assert isinstance(opened._reader, Polling)


async def test_fields_of_the_servers_own_status_are_read_by_name(press: NodeOpcua, connect: Any) -> None:
    tags = {
        "state": {"node": "i=2256", "field": "State", "type": "int32"},
        "product": {"node": "i=2256", "field": "BuildInfo.ProductName", "type": "string"},
    }
    opened = await connect(device(press, tags=tags))
    found = await latest(opened, lambda r: len(r) == 2)
    assert (found["state"].value, found["product"].value) == (0, "press")


async def test_a_password_that_cannot_be_found_is_told(press: NodeOpcua, connect: Any) -> None:
    identity = {"username": "joe", "password": {"env": "NO_SUCH_PASSWORD"}}
    error = await refusal(connect, device(press, identity=identity))
    assert error.code == "C513"
    assert "NO_SUCH_PASSWORD" in str(error)


async def test_a_server_without_a_free_session_is_told_and_refused_sessions_do_not_pile_up(
    press: NodeOpcua, connect: Any
) -> None:
    held = [await connect(device(press, "Total")) for _ in range(5)]
    for _ in range(3):
        with pytest.raises(DriverError) as raised:
            await connect(device(press, "Total"))
        assert (raised.value.code, raised.value.reason) == ("C505", "refused")
    for opened in held:
        await opened.close()
    assert (await press.tell("sessions"))["sessions"] == 0
    await connect(device(press, "Total"))


async def test_keys_are_renewed_while_values_flow(
    press: NodeOpcua, connect: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drivers.opcua.session._CHANNEL", 4_000)
    opened = await connect(device(press, "Total", security={"pki": str(tmp_path), "trust": str(press.certificate)}))
    await latest(opened, lambda r: "Total" in r)
    renewed = opened._session.renew_at
    total = await press.count("Total", rate=20)
    batches = await gathered(opened, lambda _: opened._session.renew_at > renewed + 4)
    total = (await press.quiet())["Total"] - total
    assert total > 20
    value = (await press.tell("get", node="Total"))["value"]
    seen = [reading.value for batch in batches for reading in batch.readings]
    assert seen[-1] == value or await latest(opened, lambda r: "Total" in r and r["Total"].value == value)


async def test_the_other_server_is_read_when_one_is_cut_off(press: NodeOpcua, connect: Any) -> None:
    async with cable(press.port) as relay:
        both = device(press, "Total", url=None, urls=[relay.url, press.url])
        opened = await connect(both)
        assert opened._address == relay.url
        await latest(opened, lambda r: "Total" in r)
        await relay.cut()
        with pytest.raises(ConnectionLost):
            await latest(opened, lambda _: False)
        again = await connect(both)
        assert again._address == press.url
        await latest(again, lambda r: "Total" in r)


async def test_a_frozen_server_is_a_lost_connection_and_is_closed_in_time(press: NodeOpcua, connect: Any) -> None:
    opened = await connect(device(press, "Total", timeout="300ms"))
    await latest(opened, lambda r: "Total" in r)
    press.freeze()
    try:
        with pytest.raises(ConnectionLost) as raised:
            async with asyncio.timeout(5):
                await latest(opened, lambda _: False)
        assert raised.value.code == "C502"
        async with asyncio.timeout(1):
            await opened.close()
    finally:
        press.thaw()


async def test_a_killed_server_is_lost_at_once_and_read_again_after_its_restart(
    press: NodeOpcua, connect: Any
) -> None:
    opened = await connect(device(press))
    await latest(opened, lambda r: len(r) == 6)
    await press.stop()
    with pytest.raises(ConnectionLost) as raised:
        async with asyncio.timeout(1):
            await latest(opened, lambda _: False)
    assert raised.value.code == "C504"
    with pytest.raises(DriverError) as refused:
        await connect(device(press))
    assert refused.value.code == "C501"

    press.settings["namespaces"] = 4  # a download has moved the press's own
    await press.start()
    again = await connect(device(press))
    assert (await again.read()).restarted
    found = await latest(again, lambda r: len(r) == 6)
    assert {reading.quality for reading in found.values()} == {Quality.GOOD}
    await again.close()
    assert not (await (await connect(device(press))).read()).restarted


async def test_a_server_that_announces_a_name_nobody_can_resolve_is_read_all_the_same(
    tmp_path: Path, pki: Path, connect: Callable[..., Any]
) -> None:
    """Its endpoints say another name than the address that is typed, over a protected connection too."""
    async with node_opcua(tmp_path, announce="plc-1.invalid") as elsewhere:
        protected = {"pki": str(pki), "trust": str(elsewhere.certificate)}
        for protection in ({}, {"security": protected}):
            opened = await connect(device(elsewhere, "Status", **protection))
            found = await latest(opened, bool)
            assert found["Status"].quality is Quality.GOOD
            await opened.close()
