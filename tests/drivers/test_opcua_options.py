"""What can be written for an OPC UA device, and what is refused."""

import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from drivers.opcua.addresses import NodeAddress, parse_node
from drivers.opcua.options import OpcuaDevice, OpcuaTag, Security

TAG = {"node": "nsu=urn:acme:press;s=Total", "type": "uint16"}


def device(**settings: Any) -> OpcuaDevice:
    return OpcuaDevice.model_validate({"url": "opc.tcp://10.0.0.7", "tags": {"total": TAG}} | settings)


@pytest.mark.parametrize(
    ("text", "node"),
    [
        ("nsu=urn:acme:press;s=Total", NodeAddress("urn:acme:press", 0, "Total")),
        ("nsu=http://acme/x;i=7", NodeAddress("http://acme/x", 0, 7)),
        ("nsu=urn:a%3Bb%25;s=a;b=c", NodeAddress("urn:a;b%", 0, "a;b=c")),
        ('ns=3;s="Press"."Total"', NodeAddress(None, 3, '"Press"."Total"')),
        ("i=2258", NodeAddress(None, 0, 2258)),
        (
            "ns=1;g=72962b91-fa75-4ae6-8d28-b404dc7daf63",
            NodeAddress(None, 1, uuid.UUID("72962b91-fa75-4ae6-8d28-b404dc7daf63")),
        ),
        ("ns=1;b=AQID", NodeAddress(None, 1, b"\x01\x02\x03")),
    ],
)
def test_a_node_is_written_with_its_namespace_and_one_of_four_identifiers(text: str, node: NodeAddress) -> None:
    assert parse_node(text) == node


@pytest.mark.parametrize(
    "text",
    [
        "Total",
        "s=",
        "nsu=;s=x",
        "ns=70000;i=1",
        "i=-1",
        "i=4294967296",
        "i=1_0",
        "g=12",
        "b=?",
        "nsu=a;ns=2;s=x",
        "S=x",
    ],
)
def test_a_node_that_cannot_be_read_is_a_fault_of_the_configuration(text: str) -> None:
    with pytest.raises(ValidationError):
        OpcuaTag(node=text, type="uint16")


def test_the_connection_is_signed_and_encrypted_unless_somebody_says_otherwise_twice() -> None:
    assert device().security == Security(policy="Basic256Sha256", mode="SignAndEncrypt")
    for security in ("none", {"mode": "Sign"}):
        with pytest.raises(ValidationError, match="everyone on the network"):
            device(security=security)
        device(security=security, insecure=True)


@pytest.mark.parametrize(
    "settings",
    [
        {"url": "http://10.0.0.7"},
        {"url": "opc.tcp://"},
        {"url": "opc.tcp://x:70000"},
        {"url": "opc.tcp://joe:secret@10.0.0.7"},
        {"scan": "1s"},
        {"tags": {"total": TAG | {"scan": "1s"}}},
        {"tags": {"total": TAG | {"type": "unit16"}}},
        {"tags": {"order": TAG | {"type": "string", "scale": 2.0}}},
        {"security": "maybe", "insecure": True},
        {"security": {"policy": "Basic256"}},
        {"url": None},
        {"urls": ["opc.tcp://a", "opc.tcp://b"]},
        {"url": None, "urls": ["opc.tcp://a", "http://b"]},
        {"url": None, "urls": ["opc.tcp://a", "opc.tcp://a:4840"]},
        {"identity": {}},
        {"identity": {"username": "joe", "certificate": "joe.pem", "key": "joe.key"}},
        {"identity": {"certificate": "joe.pem"}},
        {"identity": {"certificate": "joe.pem", "key": "joe.key", "password": "x"}},
        {"tags": {"total": TAG | {"field": "A..B"}}},
        {"tags": {"total": TAG | {"index": -1}}},
    ],
)
def test_what_makes_no_sense_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        device(**settings)


def test_servers_that_stand_in_for_each_other_are_all_named() -> None:
    both = device(url=None, urls=["opc.tcp://a", "opc.tcp://b:4841"])
    assert both.addresses == ("opc.tcp://a:4840", "opc.tcp://b:4841")
    assert both.endpoint == "opc.tcp://a:4840, opc.tcp://b:4841"


def test_a_part_of_a_value_is_reached_by_index_and_then_by_field() -> None:
    tag = OpcuaTag(node="i=1", type="int16", index=3, field="Axes[1,2].Position")
    assert tag.way == ((3,), "Axes", (1, 2), "Position")
    assert OpcuaTag(node="i=1", type="int16", index=(1, 2)).way == ((1, 2),)


def test_the_port_of_an_address_is_4840_unless_it_is_written() -> None:
    assert device().endpoint == "opc.tcp://10.0.0.7:4840"
    assert device(url="opc.tcp://[fe80::1]/x").endpoint == "opc.tcp://[fe80::1]:4840/x"
    assert device(url="opc.tcp://plc:4841").endpoint == "opc.tcp://plc:4841"


def test_the_servers_queue_holds_four_publishings_and_at_least_ten_values() -> None:
    assert device().queue_of("total") == 10
    assert device(publishing="1s", sampling="10ms").queue_of("total") == 400
    assert device(tags={"total": TAG | {"queue": 3}}).queue_of("total") == 3
    assert device(tags={"total": TAG | {"sampling": "100ms"}}).period("total") == 600_000


def test_a_namespace_index_draws_a_warning() -> None:
    moving = device(
        tags={
            "total": TAG,
            "fault": {"node": "ns=3;s=Fault", "type": "uint16"},
            "time": {"node": "i=2258", "type": "string"},
        }
    )
    assert [(found.code, found.path) for found in moving.warnings()] == [("W305", ("tags", "fault", "node"))]


def test_a_password_is_not_shown() -> None:
    assert "hunter2" not in repr(device(identity={"username": "joe", "password": "hunter2"}))


def test_certificates_are_kept_beside_the_configuration_file(tmp_path: Path) -> None:
    found = OpcuaDevice.model_validate(
        {"url": "opc.tcp://x", "tags": {}, "security": {"trust": "plc.der"}}, context={"base_dir": tmp_path}
    )
    assert isinstance(found.security, Security)
    assert (found.security.pki, found.security.trust) == (str(tmp_path / "data/pki"), str(tmp_path / "plc.der"))
    silent = OpcuaDevice.model_validate({"url": "opc.tcp://x", "tags": {}}, context={"base_dir": tmp_path})
    assert isinstance(silent.security, Security)
    assert silent.security.pki == str(tmp_path / "data/pki")


def test_asking_for_the_options_does_not_load_asyncua() -> None:
    code = "import sys, drivers.opcua; drivers.opcua.SPEC().options; print('asyncua' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
