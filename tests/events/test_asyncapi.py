"""The AsyncAPI document against the specification, the record types, the schemas and the real topics."""

import json
import re
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft7Validator

from edge_agent.events import types
from edge_agent.events.schema import load
from edge_agent.events.topics import Place
from edge_agent.events.types import Data
from tests.programs import missing

HOME = Path(types.__file__).parent.parent
DOCUMENT = yaml.safe_load((HOME / "asyncapi.yaml").read_text(encoding="utf-8"))
SPECIFICATION = Path("tests/peers/node_modules/@asyncapi/specs/schemas/3.0.0-without-$id.json")
MACHINE = Place("", "ea/v1/{site}/{area}/{line}/{machine}")
AGENT = Place("", "ea/v1/_agents/{agent}")
TYPES = sorted(
    kind.TYPE for kind in vars(types).values() if isinstance(kind, type) and issubclass(kind, Data) and kind.TYPE
)
MIXED_IN = {"common", "envelope", "downtime", "order", "alarm", "command"}


def references(part, path=()):
    """(path, reference) of every `$ref` in the document."""
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield path, part["$ref"]
        for key, member in part.items():
            yield from references(member, (*path, key))
    elif isinstance(part, list):
        for index, member in enumerate(part):
            yield from references(member, (*path, index))


def resolved(reference):
    """What a reference leads to, through references. Raises KeyError or OSError."""
    if not reference.startswith("#/"):
        return json.loads((HOME / reference).read_text(encoding="utf-8"))
    found = DOCUMENT
    for step in reference[2:].split("/"):
        found = found[step]
    return resolved(found["$ref"]) if isinstance(found, dict) and "$ref" in found else found


def carried():
    """(address, message name) of every message of every channel."""
    for channel in DOCUMENT["channels"].values():
        for message in channel["messages"].values():
            yield channel["address"], resolved(message["$ref"])["name"]


def test_every_reference_of_the_document_resolves():
    found = list(references(DOCUMENT))
    assert len(found) > 100
    for path, reference in found:
        assert resolved(reference), path


def test_every_reference_between_schemas_resolves():
    schemas = {schema["$id"]: schema for schema in load().values()}
    for schema in schemas.values():
        for path, reference in references(schema):
            name, _, pointer = reference.partition("#/")
            target = schemas[name] if name else schema
            for step in filter(None, pointer.split("/")):
                assert step in target, (schema["$id"], path, reference)
                target = target[step]


@pytest.mark.parametrize("type_", TYPES)
def test_every_type_has_a_message_with_its_schema_in_the_channels_of_its_family(type_):
    key = re.sub(r"[._](\w)", lambda m: m[1].upper(), type_)
    message = DOCUMENT["components"]["messages"][key]
    assert message["name"] == type_
    envelope, own = message["payload"]["schema"]["allOf"]
    assert envelope == {"$ref": "schemas/envelope.json"}
    assert own["properties"]["type"]["const"] == f"dev.edgeagent.{type_}.v1"
    assert resolved(own["properties"]["data"]["$ref"]) == load()[type_]
    addresses = {address for address, name in carried() if name == type_}
    possible = {place.event(type_) for place in (MACHINE, AGENT)}
    current = {MACHINE.current(what) for what in ("state", "downtime", "order")}
    assert addresses & possible
    assert addresses <= possible | current
    assert addresses & current == (
        {MACHINE.current(f)} if (f := type_.split(".")[0]) in "state downtime order" else set()
    )


def test_every_message_of_a_channel_is_sent_or_received_and_no_other():
    told = {}
    for operation in DOCUMENT["operations"].values():
        channel = resolved(operation["channel"]["$ref"])
        own = {f"{operation['channel']['$ref']}/messages/{name}" for name in channel["messages"]}
        assert {message["$ref"] for message in operation["messages"]} == own
        told[channel["address"]] = operation["action"]
    assert told.keys() == {channel["address"] for channel in DOCUMENT["channels"].values()}
    assert {action for address, action in told.items() if "/cmd/" in address} == {"receive"}
    assert {action for address, action in told.items() if "/cmd/" not in address} == {"send"}


def test_every_schema_is_used():
    used = {Path(reference).stem for _, reference in references(DOCUMENT) if reference.startswith("schemas/")}
    assert used | MIXED_IN == load().keys()


def test_every_parameter_of_an_address_is_explained_and_no_other():
    for name, channel in DOCUMENT["channels"].items():
        assert set(re.findall(r"{(\w+)}", channel["address"])) == channel["parameters"].keys(), name


def test_what_is_retained_is_said():
    for operation in DOCUMENT["operations"].values():
        address = resolved(operation["channel"]["$ref"])["address"]
        (trait,) = operation["traits"]
        retained = "/cur/" in address or address.endswith("/status")
        assert resolved(trait["$ref"])["bindings"]["mqtt"] == {
            "qos": 1,
            "retain": retained,
            "bindingVersion": "0.2.0",
        }


def test_the_document_is_as_the_specification_of_asyncapi_says(repository):
    file = repository / SPECIFICATION
    if not file.exists():
        missing("@asyncapi/specs", "nodejs npm; then: npm ci --prefix tests/peers")
    errors = list(Draft7Validator(json.loads(file.read_text(encoding="utf-8"))).iter_errors(DOCUMENT))
    assert [f"{'/'.join(map(str, error.absolute_path))}: {error.message}" for error in errors] == []
