"""What a person is told of a doubtful OPC UA tag: the code, and what to write instead."""

import pytest

from drivers.base import Quality, Reading
from drivers.opcua import binary
from drivers.opcua.addresses import parse_node
from drivers.opcua.doubts import doubt, no_namespace

SERVER = ["http://opcfoundation.org/UA/", "urn:acme:server", "urn:acme:press"]
NAMES = {2: {"FaultCode": "FaultCode", '"DB1"."Total"': "Total"}}
GOOD, DENIED, GONE, NO_VALUE, FAILED = 0, 0x801F0000, 0x80340000, 0x80350000, 0x808C0000


@pytest.mark.parametrize(
    ("node", "index", "kind", "status", "code", "fix"),
    [
        ("nsu=urn:acme:press;s=FaultCod", 2, 0, GONE, "C521", "did you mean s=FaultCode?"),
        ("nsu=urn:acme:press;s=X", 2, 0, GONE, "C521", "edge-agent browse shows what it has"),
        ("ns=1;i=7", 1, 0, GONE, "C521", "edge-agent browse shows what it has"),
        ("ns=1;s=FaultCode", 1, 0, GONE, "C522", "node: 'nsu=urn:acme:press;s=FaultCode'"),
        ("nsu=urn:acme:server;s=FaultCode", 1, 0, GONE, "C522", "node: 'nsu=urn:acme:press;s=FaultCode'"),
        ("nsu=urn:acme:press;s=Press", 2, 0, NO_VALUE, "C521", "name a variable below it"),
        ("nsu=urn:acme:press;s=FaultCode", 2, 0, DENIED, "C513", "allow it in the server, or give 'identity' a user"),
        ("nsu=urn:acme:press;s=FaultCode", 2, 0, FAILED, "C523", "see the sensor or the PLC program"),
        ("nsu=urn:acme:press;s=FaultCode", 2, binary.ARRAY | 4, GOOD, "C523", "name the element: index: 0"),
        ("nsu=urn:acme:press;s=FaultCode", 2, binary.STRUCTURE, GOOD, "C523", "name the part: field: NAME"),
        ("nsu=urn:acme:press;s=FaultCode", 2, 4, GOOD, "C523", "type: int16"),
        ("nsu=urn:acme:press;s=FaultCode", 2, 15, GOOD, "C523", "another node: this cannot be a tag"),
    ],
)
def test_a_bad_value_is_told_with_its_code_and_its_mend(
    node: str, index: int, kind: int, status: int, code: str, fix: str
) -> None:
    bad = Reading("x", None, Quality.BAD, detail="why")
    found = doubt(bad, (1, kind, None, status, None), parse_node(node), index, SERVER, NAMES)
    assert found.code == code
    assert found.fix.startswith(fix)


def test_a_good_value_is_not_doubted_and_an_uncertain_one_is() -> None:
    node = parse_node("nsu=urn:acme:press;s=FaultCode")
    assert doubt(Reading("x", 1), (1, 4, 1, GOOD, None), node, 2, SERVER, NAMES).code == ""
    unsure = Reading("x", 1, Quality.UNCERTAIN, detail="UncertainLastUsableValue")
    assert doubt(unsure, (1, 4, 1, 0x40900000, None), node, 2, SERVER, NAMES).code == "C523"


def test_a_namespace_that_is_not_there_is_told_with_the_one_that_is_near() -> None:
    assert no_namespace("urn:acme:pres", SERVER).fix == "did you mean 'urn:acme:press'?"
    assert no_namespace("http://siemens", ["http://opcfoundation.org/UA/"]).fix == "the server has none of its own"
