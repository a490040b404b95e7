"""Every message that a test receives is held against the shipped schemas: `check_message(topic, payload)`.

Stricter than a consumer may be: a member that no schema names is a fault of ours.
"""

import json
from copy import deepcopy
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from edge_agent.events.schema import load


def check_message(topic: str, payload: bytes) -> Any:
    """The parsed message. Raises AssertionError that names the topic, the place and what is wrong."""
    message = json.loads(payload, parse_constant=_no_constant)
    if topic.endswith("/status"):
        _check("agent.status", message, topic)
    elif "/cur/" in topic and "specversion" not in message:
        _check(f"cur.{topic.rpartition('/')[2]}", message, topic)
    else:
        _check("envelope", message, topic)
        type_ = message["type"].removeprefix("dev.edgeagent.").rpartition(".")[0]
        _check(type_, message["data"], topic)
        _check_envelope(topic, message, type_)
    return message


def _check(name: str, instance: Any, topic: str) -> None:
    schemas = _strict()
    assert name in schemas, f"{topic}: there is no schema for {name}"
    errors = list(_validator(name).iter_errors(instance))
    if errors:
        worst = errors[0]
        place = "/".join(str(step) for step in worst.absolute_path) or "(top)"
        raise AssertionError(
            f"{topic}: {name} at {place}: {worst.message}\n{json.dumps(instance, ensure_ascii=False)}"
        )


def _check_envelope(topic: str, event: dict[str, Any], type_: str) -> None:
    """What a schema cannot say: that the members agree with each other and with the topic."""
    number = int(event["sequence"])
    assert event["id"] == f"{event['epoch']}.{number}", f"{topic}: id and sequence differ: {event['id']}"
    assert event["dataschema"].split(":")[3] == type_, f"{topic}: {event['type']} with {event['dataschema']}"
    stream = event["source"].split(":")[3]
    family = type_.split(".")[0]
    levels = topic.split("/")
    if "cur" not in levels:
        end = ["ack"] if family == "command" else ["evt", family]
        assert levels[-len(end) :] == end, f"{topic} carries {type_}"
    if stream == "$agent.h":
        assert event["subject"].split("/")[-1] == event["source"].split(":")[2], f"{topic}: {event['subject']}"
    else:
        assert event["subject"].split("/")[4] == stream[:-2], f"{topic}: {event['subject']} in {stream}"
    if type_ == "measurement.sampled":
        data = event["data"]
        bad = {name for name, quality in data.get("q", {}).items() if quality == "bad"}
        assert not bad & data["values"].keys(), f"{topic}: a BAD value is shown: {bad}"
    if len(payload := json.dumps(event)) > 64 << 10:
        raise AssertionError(f"{topic}: {len(payload)} characters are more than an intermediary must forward")


@cache
def _strict() -> dict[str, dict[str, Any]]:
    return {name: _closed(deepcopy(schema)) for name, schema in load().items()}


def _closed(schema: Any) -> Any:
    """The schema with every object closed against members it does not name. Mix-ins have no type and stay open."""
    if isinstance(schema, list):
        return [_closed(member) for member in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(value) for key, value in schema.items()}
    if closed.get("type") == "object" and "properties" in closed and "additionalProperties" not in closed:
        closed["unevaluatedProperties"] = False
    return closed


@cache
def _registry() -> Registry:
    return Registry().with_resources((schema["$id"], Resource.from_contents(schema)) for schema in _strict().values())


@cache
def _validator(name: str) -> Draft202012Validator:
    return Draft202012Validator(_strict()[name], registry=_registry())


def _no_constant(name: str) -> Any:
    raise AssertionError(f"{name} is not JSON")
