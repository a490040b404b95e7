"""The rows of event fields, from the schemas: each with its type and unit, enumerations with their words."""

from collections.abc import Iterator, Mapping
from typing import Any

from edge_agent.dictionary.entry import Entry
from edge_agent.events.schema import load

_NOT_EVENTS = ("envelope", "common", "cmd", "agent.status", "cur.counters", "cur.tags")
_UNITS = {"_s": "SEC", "_ms": "C26"}


def fields() -> Iterator[Entry]:
    """`head` are the fields that every event has, `downtime.*` those that its events share."""
    schemas = load()
    ids = {schema["$id"]: schema for schema in schemas.values()}
    yield from _Walk(ids, "head", schemas["common"]).properties(schemas["common"]["$defs"]["head"])
    for name, schema in schemas.items():
        if name not in _NOT_EVENTS:
            yield from _Walk(ids, name if "." in name else f"{name}.*", schema).properties(schema)


class _Walk:
    """Through one schema; `asset` is what its rows belong to."""

    def __init__(self, ids: Mapping[str, Any], asset: str, root: Mapping[str, Any]) -> None:
        self._ids = ids
        self._asset = asset
        self._root = root

    def properties(self, schema: Mapping[str, Any], prefix: str = "") -> Iterator[Entry]:
        required = set(schema.get("required", ()))
        for name, member in schema.get("properties", {}).items():
            yield from self._field(member, f"{prefix}{name}", name in required)

    def _field(self, schema: Mapping[str, Any], path: str, required: bool) -> Iterator[Entry]:
        schema = self._resolved(schema)
        words = schema.get("enum") or ([schema["const"]] if "const" in schema else [])
        yield Entry(
            "field",
            self._asset,
            name=path,
            text=schema.get("description", ""),
            unit=next((unit for end, unit in _UNITS.items() if path.endswith(end)), ""),
            type=self._type(schema) + ("" if required else "?"),
        )
        for word in words:
            yield Entry("enum", self._asset, name=path, code=str(word).lower() if word is True else str(word))
        inner = self._resolved(schema.get("items", {}))
        if "enum" in inner:
            for word in inner["enum"]:
                yield Entry("enum", self._asset, name=f"{path}[]", code=str(word))
        yield from self.properties(inner, f"{path}[].")
        yield from self.properties(schema, f"{path}.")
        each = schema.get("additionalProperties")
        if isinstance(each, Mapping):
            yield from self.properties(self._resolved(each), f"{path}.<name>.")

    def _resolved(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        """The schema with what it refers to."""
        while "$ref" in schema:
            name, _, pointer = str(schema["$ref"]).partition("#")
            found: Any = self._ids[name] if name else self._root
            for step in filter(None, pointer.split("/")):
                found = found[step]
            schema = {**found, **{key: value for key, value in schema.items() if key != "$ref"}}
        return schema

    def _type(self, schema: Mapping[str, Any]) -> str:
        kind = schema.get("type")
        if "enum" in schema:
            return "enum"
        if "const" in schema:
            return "boolean" if isinstance(schema["const"], bool) else "enum"
        if isinstance(kind, list):
            return " or ".join(kind)
        if kind is None and "anyOf" in schema:
            return " or ".join(dict.fromkeys(self._type(self._resolved(part)) for part in schema["anyOf"]))
        if kind == "array":
            return f"array of {self._type(self._resolved(schema.get('items', {})))}"
        return str(kind or "object")
