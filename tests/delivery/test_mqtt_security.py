"""Login, access lists and TLS with mosquitto: each refusal is one sentence that names the mend."""

from pathlib import Path

import pytest

from buffer.outbox import Lane, Message
from config.model import Mqtt
from edge_agent.clock import SystemClock
from edge_agent.delivery.mqtt import MqttPublisher
from edge_agent.delivery.publisher import Forbidden, NotConnected, Rejected
from tests.certificates import Authority
from tests.servers_mqtt import Sink, mosquitto

EPOCH = "mlu4idc09c7x"


def message(topic: str) -> Message:
    return Message("m.p", EPOCH, 1, Lane.PRODUCTION, "state.changed", topic, b"{}")


def presence(word: str) -> Message:
    return Message("$agent.h", EPOCH, 0, Lane.HEALTH, "agent.status", "ea/v1/_agents/a/status", word.encode())


WILL, BIRTH = presence("will"), presence("birth")


def publisher(url: str, *, password: str | None = None, home: Path = Path(), **options: object) -> MqttPublisher:
    return MqttPublisher(
        Mqtt(url=url, **options), client_id="agent-1", password=password, clock=SystemClock(), home=home
    )


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_a_wrong_password_is_a_refused_login(tmp_path: Path, protocol: str) -> None:
    async with mosquitto(tmp_path, users={"press": "right"}) as broker:
        for password in ("wrong", None):
            mqtt = publisher(broker.url, username="press", password=password, protocol=protocol)
            with pytest.raises(Forbidden, match=r"refuses the user 'press'.*mqtt\.password") as refused:
                await mqtt.connect(WILL, BIRTH)
            assert refused.value.code == "B601"
        mqtt = publisher(broker.url, username="press", password="right", protocol=protocol)
        await mqtt.connect(WILL, BIRTH)
        await mqtt.close()


async def test_a_login_without_a_name_is_told_so(tmp_path: Path) -> None:
    async with mosquitto(tmp_path, users={"press": "right"}) as broker:
        with pytest.raises(Forbidden, match="without a user name") as refused:
            await publisher(broker.url).connect(WILL, BIRTH)
        assert refused.value.code == "B601"


async def test_a_topic_that_is_not_allowed_is_named(tmp_path: Path) -> None:
    acl = ["topic write ea/v1/_agents/#", "topic write ea/v1/s/a/l/m/#", "topic read #"]
    async with mosquitto(tmp_path, acl=acl) as broker, Sink(broker.port, "ea/v1/s/#") as sink:
        mqtt = publisher(broker.url)
        await mqtt.connect(WILL, BIRTH)
        with pytest.raises(Forbidden, match="ea/v1/s/a/l/other/evt/state") as refused:
            await mqtt.publish(message("ea/v1/s/a/l/other/evt/state"))
        assert refused.value.code == "B603"
        await mqtt.connect(WILL, BIRTH)  # this mosquitto ends the connection after a refusal
        await mqtt.publish(message("ea/v1/s/a/l/m/evt/state"))
        (received,) = await sink.wait_for(1)
        assert received.topic == "ea/v1/s/a/l/m/evt/state"
        await mqtt.close()


async def test_a_message_over_the_brokers_own_limit_is_rejected(tmp_path: Path) -> None:
    async with mosquitto(tmp_path, extra=["message_size_limit 1000"]) as broker:
        mqtt = publisher(broker.url)
        await mqtt.connect(WILL, BIRTH)
        large = message("ea/v1/s/a/l/m/evt/state")._replace(body=b"x" * 2000)
        with pytest.raises(Rejected, match="too large"):
            await mqtt.publish(large)
        await mqtt.connect(WILL, BIRTH)  # this mosquitto ends the connection after a refusal
        await mqtt.publish(message("ea/v1/s/a/l/m/evt/state"))
        await mqtt.close()


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("plant"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("stranger"), "other-ca")


def server_files(plant: Authority, name: str, address: str) -> tuple[Path, Path, Path]:
    return (plant.ca_file, *plant.issue(name, address=address))


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_tls_with_the_plants_own_authority(tmp_path: Path, plant: Authority, protocol: str) -> None:
    async with mosquitto(tmp_path, tls=server_files(plant, "broker", "127.0.0.1")) as broker:
        mqtt = publisher(
            f"mqtts://127.0.0.1:{broker.port}",
            home=plant.ca_file.parent,
            ca_file=plant.ca_file.name,
            protocol=protocol,
        )
        await mqtt.connect(WILL, BIRTH)
        large = message("ea/v1/s/a/l/m/evt/state")._replace(body=b"x" * 500_000)
        for confirmed in [mqtt.publish(large) for _ in range(4)]:
            await confirmed
        await mqtt.close()


async def test_a_broker_signed_by_a_stranger_is_not_trusted(
    tmp_path: Path, plant: Authority, stranger: Authority
) -> None:
    async with mosquitto(tmp_path, tls=server_files(plant, "broker", "127.0.0.1")) as broker:
        url = f"mqtts://127.0.0.1:{broker.port}"
        with pytest.raises(NotConnected, match=r"not trusted by mqtt\.ca_file.*other-ca\.pem") as refused:
            await publisher(url, ca_file=str(stranger.ca_file)).connect(WILL, BIRTH)
        assert refused.value.code == "B602"
        with pytest.raises(NotConnected, match="not trusted by the system's certificates"):
            await publisher(url).connect(WILL, BIRTH)


async def test_a_certificate_for_another_address_is_told_so(tmp_path: Path, plant: Authority) -> None:
    async with mosquitto(tmp_path, tls=server_files(plant, "elsewhere", "127.0.0.9")) as broker:
        mqtt = publisher(f"mqtts://127.0.0.1:{broker.port}", ca_file=str(plant.ca_file))
        with pytest.raises(NotConnected, match="is for another name") as refused:
            await mqtt.connect(WILL, BIRTH)
        assert refused.value.code == "B602"


async def test_a_client_certificate_opens_what_is_closed_without(tmp_path: Path, plant: Authority) -> None:
    files = server_files(plant, "broker", "127.0.0.1")
    async with mosquitto(tmp_path, tls=files, client_certificates=True) as broker:
        url, ca_file = f"mqtts://127.0.0.1:{broker.port}", str(plant.ca_file)
        with pytest.raises(NotConnected, match=r"mqtt\.cert_file") as refused:
            await publisher(url, ca_file=ca_file).connect(WILL, BIRTH)
        assert refused.value.code == "B602"
        cert_file, key_file = plant.issue("agent-1")
        mqtt = publisher(url, ca_file=ca_file, cert_file=str(cert_file), key_file=str(key_file))
        await mqtt.connect(WILL, BIRTH)
        await mqtt.publish(message("ea/v1/s/a/l/m/evt/state"))
        await mqtt.close()


async def test_tls_to_a_port_without_tls_is_told_so(tmp_path: Path, plant: Authority) -> None:
    async with mosquitto(tmp_path) as broker:
        mqtt = publisher(f"mqtts://127.0.0.1:{broker.port}", ca_file=str(plant.ca_file), timeout="2s")
        with pytest.raises(NotConnected, match="TLS port") as refused:
            await mqtt.connect(WILL, BIRTH)
        assert refused.value.code == "B602"


async def test_a_missing_certificate_file_is_named(tmp_path: Path) -> None:
    mqtt = publisher("mqtts://127.0.0.1:1", ca_file=str(tmp_path / "missing.pem"))
    with pytest.raises(NotConnected, match=r"missing\.pem") as refused:
        await mqtt.connect(WILL, BIRTH)
    assert refused.value.code == "B602"
