"""The JSON Schema of the file, as an editor wants it: before templates are expanded, with hover texts.

It comes from the models. A machine that uses a template, and a template itself, are the same models with every
key optional; in a template every value may hold `${name}`. What only the loader can know (tags that exist,
exactly one address) is not in it.
"""

import ast
import inspect
import itertools
import textwrap
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from config.kinds import NAME
from config.model import Config, DeviceOptions, MachineOptions

_NAMES = {"type": "string", "pattern": NAME}
_VARIABLE = {"type": "string", "pattern": r"\$\{[A-Za-z0-9_-]+\}"}
_REF = "#/$defs/"
_OVER, _FILLED = "Override", "InTemplate"
_NO_SCHEMAS = frozenset(("default", "const", "enum", "examples", "discriminator", "propertyNames", "if"))
Json = dict[str, Any]


def schema(drivers: Mapping[str, type[DeviceOptions]]) -> Json:
    """JSON Schema (draft 2020-12) of a configuration with these drivers."""
    models: list[type[BaseModel]] = [Config, MachineOptions, *drivers.values()]
    names, full = models_json_schema(
        [(model, "validation") for model in models], ref_template=_REF + "{model}", by_alias=True
    )
    defs: Json = dict(full.get("$defs", {}))
    known = _models(models)
    for name, part in defs.items():
        _describe(part, known.get(name))
    words = {model: names[model, "validation"]["$ref"].removeprefix(_REF) for model in models}
    driver_defs = {name: words[model] for name, model in drivers.items()}
    defs["Device"] = _device(driver_defs, "", required=True)
    machine = defs[words[MachineOptions]]
    machine["properties"]["device"] = {
        "description": "A device of its own, or the name of one under devices.",
        "anyOf": [{"type": "string"}, {"$ref": _REF + "Device"}],
    }
    optional = _copies(defs, _OVER, _optional)
    optional["Device" + _OVER] = _device(driver_defs, _OVER, required=False)
    filled = _copies(optional, _FILLED, _or_variable)
    return _root({**defs, **optional, **filled}, words[Config], words[MachineOptions])


def _root(defs: Json, config: str, machine: str) -> Json:
    root = defs[config]
    user = _extended(defs[machine + _OVER], {
        "template": {"type": "string", "description": "The template that this machine is made from."},
        "vars": {
            "type": "object",
            "additionalProperties": {"type": ["string", "number", "boolean"]},
            "description": "Values of the template's variables.",
        },
    })  # fmt: skip
    defs["MachineOfTemplate"] = {**user, "required": ["template"]}
    variables = {"type": "array", "items": _NAMES, "description": "Names that are written ${name} below."}
    defs["Template"] = _extended(defs[machine + _OVER + _FILLED], {"vars": variables})
    properties: Json = dict(root["properties"])
    properties["devices"] = _named({"$ref": _REF + "Device"}, "What the agent connects to.")
    either = {
        "if": {"required": ["template"]},
        "then": {"$ref": _REF + "MachineOfTemplate"},
        "else": {"$ref": _REF + machine},
    }
    properties["machines"] = _named(either, "The machines whose events are made.")
    properties["templates"] = _named({"$ref": _REF + "Template"}, "Machines written once and used by many.")
    listed = _extended(user, {
        "csv": {"type": "string", "description": "Rows of machines; the first row the columns: name, variables."}
    })  # fmt: skip
    defs["MachineList"] = {**listed, "required": ["csv", "template"]}
    several = {"$ref": _REF + "MachineList"}
    properties["machines_from"] = {
        "description": "Machines written as the rows of a CSV file.",
        "anyOf": [several, {"type": "array", "items": several}],
    }
    properties["include"] = {
        "description": "Files whose sections belong to this one; named from its folder.",
        "type": "array",
        "items": {"type": "string"},
    }
    agent = {key: part for key, part in defs["AgentOptions"].items() if key != "required"}
    defs["AgentOptions"] = agent
    result: Json = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "edge-agent.yaml",
        **{key: part for key, part in root.items() if key not in ("title", "properties", "required")},
        "required": ["version", "site"],
        "properties": properties,
    }
    return {**result, "$defs": _used(result, defs)}


def _used(part: Any, defs: Json) -> Json:
    """The definitions that are referred to."""
    found: Json = {}
    todo = [part]
    while todo:
        part = todo.pop()
        if isinstance(part, dict):
            name = str(part.get("$ref", "")).removeprefix(_REF)
            if name in defs and name not in found:
                found[name] = defs[name]
                todo.append(defs[name])
            todo += part.values()
        elif isinstance(part, list):
            todo += part
    return dict(sorted(found.items()))


def _named(part: Json, description: str) -> Json:
    return {
        "type": ["object", "null"],
        "propertyNames": _NAMES,
        "additionalProperties": part,
        "description": description,
    }


def _extended(part: Json, properties: Json) -> Json:
    return {**part, "properties": {**properties, **part["properties"]}}


def _device(drivers: Mapping[str, str], suffix: str, *, required: bool) -> Json:
    """The driver's own schema, chosen by `driver`; without it, as in an override, any of them."""
    chosen: list[Json] = [
        {
            "if": {"properties": {"driver": {"const": name}}, "required": ["driver"]},
            "then": {"$ref": f"{_REF}{model}{suffix}"},
        }
        for name, model in drivers.items()
    ]
    device: Json = {
        "type": "object",
        "properties": {"driver": {"enum": list(drivers), "description": "The protocol that the device speaks."}},
        "allOf": chosen,
    }
    if required:
        return {**device, "required": ["driver"]}
    anything = {
        "anyOf": [{"required": ["driver"]}, *({"$ref": f"{_REF}{model}{suffix}"} for model in drivers.values())]
    }
    return {**device, **anything}


def _copies(defs: Json, suffix: str, change: Callable[[Json], Json]) -> Json:
    """Every definition once more under `name + suffix`, changed, and referring to its like. A value that is left
    out, or has a variable in it, may fit several branches: oneOf becomes anyOf."""

    def copied(part: Any, inside: str = "") -> Any:
        if isinstance(part, list) and inside in ("anyOf", "allOf", "items", "prefixItems"):
            return [copied(item) for item in part]
        if not isinstance(part, dict) or inside in _NO_SCHEMAS:
            return part
        if inside in ("properties", "patternProperties"):
            return {key: copied(value) for key, value in part.items()}
        renamed = {"anyOf" if key == "oneOf" else key: value for key, value in part.items()}
        found = {key: copied(value, key) for key, value in renamed.items()}
        if "$ref" in part:
            found["$ref"] = part["$ref"] + suffix
        return change(found)

    return {name + suffix: copied(part) for name, part in defs.items()}


def _optional(part: Json) -> Json:
    """Nothing is required, and an empty value takes the template's away."""
    found = {key: value for key, value in part.items() if key not in ("required", "minItems")}
    if isinstance(found.get("properties"), dict) and found.get("type") == "object":
        found["properties"] = {
            name: {"anyOf": [value, {"type": "null"}], **_outside(value)}
            for name, value in found["properties"].items()
        }
    if isinstance(found.get("additionalProperties"), dict):
        found["additionalProperties"] = {"anyOf": [found["additionalProperties"], {"type": "null"}]}
    return found


def _or_variable(part: Json) -> Json:
    """A single value may be written as, or with, `${name}`."""
    kind = part.get("type")
    narrow = kind in ("integer", "number", "boolean") or (kind == "string" and "pattern" in part)
    if not (narrow or "enum" in part or "const" in part):
        return part
    return {"anyOf": [part, _VARIABLE], **_outside(part)}


def _outside(part: Json) -> Json:
    """What an editor shows, beside an anyOf around the part."""
    return {key: part[key] for key in ("description", "default", "title") if key in part}


def _models(roots: list[type[BaseModel]]) -> dict[str, type[BaseModel]]:
    """Every model below the roots by name."""
    found: dict[str, type[BaseModel]] = {}
    todo: list[Any] = list(roots)
    while todo:
        part = todo.pop()
        if isinstance(part, type) and issubclass(part, BaseModel):
            if found.get(part.__name__) is not part:
                found[part.__name__] = part
                todo += [field.annotation for field in part.model_fields.values()]
        else:
            todo += getattr(part, "__args__", ())
    return found


def _describe(part: Json, model: type[BaseModel] | None) -> None:
    """The docstrings of the fields as hover texts."""
    if model is None:
        return
    texts = docstrings(model)
    for name, field in model.model_fields.items():
        spot = part.get("properties", {}).get(field.alias or name)
        if spot is not None and name in texts:
            spot.setdefault("description", texts[name])


def docstrings(model: type[BaseModel]) -> dict[str, str]:
    """Text below each field in the source of the model and of those it inherits from."""
    found: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if not issubclass(base, BaseModel) or base is BaseModel:
            continue
        try:
            body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]
        except (OSError, SyntaxError):
            continue  # no source, as in a frozen program: no hover texts
        lines = body.body if isinstance(body, ast.ClassDef) else []
        for field, text in itertools.pairwise(lines):
            match field, text:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(said))):
                    found[name] = inspect.cleandoc(said)
    return found
