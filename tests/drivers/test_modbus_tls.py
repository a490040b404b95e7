"""Modbus/TCP Security: both ends show who they are, and nobody is believed without."""

import ssl

import pytest

from drivers.errors import DriverError
from drivers.modbus.options import ModbusDevice
from drivers.registry import Drivers
from tests.certificates import Authority
from tests.servers_modbus import HostilePeer


def device(url: str, **options: object) -> ModbusDevice:
    return ModbusDevice.model_validate({"url": url, "timeout": "20s", "tags": {"r7": {"holding": 7}}, **options})


@pytest.fixture
def plant(tmp_path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
async def plc(plant):
    """A device that wants a certificate of the plant."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*plant.issue("plc", address="127.0.0.1"))
    context.load_verify_locations(plant.ca_file)
    context.verify_mode = ssl.CERT_REQUIRED
    async with HostilePeer(lambda asked: asked.reply(), tls=context) as peer:
        yield peer


async def read(options: ModbusDevice) -> object:
    driver = Drivers().open("oven-1", options)
    try:
        await driver.connect()
        return (await driver.read()).readings[0].value
    finally:
        await driver.close()


async def refused(options: ModbusDevice) -> str:
    with pytest.raises(DriverError) as raised:
        await read(options)
    assert (raised.value.code, raised.value.reason) in (("C511", "auth"), ("C502", "session_lost"))
    return str(raised.value)


async def test_a_device_of_the_plant_is_read(plant, plc):
    certificate, key = plant.issue("agent")
    files = {"ca_file": str(plant.ca_file), "cert_file": str(certificate), "key_file": str(key)}
    assert await read(device(plc.url, **files)) == 7


async def test_a_device_that_nobody_vouches_for_is_not_read(plant, plc, tmp_path):
    certificate, key = plant.issue("agent")
    mine = {"cert_file": str(certificate), "key_file": str(key)}
    assert "not trusted" in await refused(device(plc.url, **mine))
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other", "other-ca")
    assert "not trusted" in await refused(device(plc.url, ca_file=str(other.ca_file), **mine))
    assert await read(device(plc.url, insecure=True, **mine)) == 7


async def test_a_certificate_for_another_name_is_not_believed(plant):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*plant.issue("another-plc"))
    async with HostilePeer(lambda asked: asked.reply(), tls=context) as peer:
        assert "not trusted" in await refused(device(peer.url, ca_file=str(plant.ca_file)))


async def test_a_device_that_wants_a_certificate_does_not_get_far_without(plant, plc):
    await refused(device(plc.url, ca_file=str(plant.ca_file)))


async def test_a_certificate_that_is_not_there_is_named(plc):
    with pytest.raises(DriverError, match=r"cannot be read: .*nowhere\.pem") as raised:
        await read(device(plc.url, ca_file="/etc/nowhere.pem"))
    assert raised.value.code == "C509"


async def test_a_port_without_tls_says_so():
    async with HostilePeer(lambda asked: asked.reply()) as peer:
        text = await refused(device(peer.url.replace("tcp:", "tls:"), insecure=True))
    assert text


async def test_a_port_without_tls_is_asked_about() -> None:
    async with HostilePeer(lambda asked: b"") as peer:
        with pytest.raises(DriverError, match="is it a TLS port"):
            await read(device(f"tls://127.0.0.1:{peer.port}", insecure=True, timeout="500ms"))


async def test_a_gateway_that_is_taken_for_a_converter_is_asked_about() -> None:
    async with HostilePeer(lambda asked: asked.reply()) as peer:
        with pytest.raises(DriverError, match="a Modbus gateway has tcp://"):
            await read(device(f"rtu+tcp://127.0.0.1:{peer.port}", timeout="500ms"))
