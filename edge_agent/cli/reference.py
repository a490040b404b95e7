"""The reference of the documents and the man pages, made from the program itself: commands, settings, codes, events.

`python -m edge_agent.cli.reference docs/reference` writes the pages, `--man DIR` writes man pages. A test holds the
pages in the repository against what would be written.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from typer.core import TyperGroup

from config import units
from config.model import Config, MachineOptions
from config.schema import docstrings
from drivers.registry import Drivers
from edge_agent.catalogue import pages
from edge_agent.cli.app import app

PROGRAM = "edge-agent"
_MADE = "<!-- made by `make reference`; edit the program, not this page -->\n\n"


def commands() -> Iterator[tuple[str, Any]]:
    """Every command with its full name, in the order of the overview."""
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    yield PROGRAM, group
    yield from _below(group, PROGRAM)


def _below(group: TyperGroup, prefix: str) -> Iterator[tuple[str, Any]]:
    context = typer.Context(group)
    for name in group.list_commands(context):
        _, found, _ = group.resolve_command(context, [name])
        assert found is not None
        yield f"{prefix} {name}", found
        if isinstance(found, TyperGroup):
            yield from _below(found, f"{prefix} {name}")


def written() -> dict[str, str]:
    """File name → content of every page."""
    return {
        "commands.md": _commands(),
        "settings.md": _settings(),
        "codes.md": _codes(),
        "events.md": _events(),
    }


def help_text(name: str, found: Any) -> str:
    """What `-h` prints, at a fixed width."""
    context = typer.Context(found, info_name=name, terminal_width=100, max_content_width=100)
    return str(found.get_help(context))


def _commands() -> str:
    parts = [f"{_MADE}# Commands\n\nAs `-h` prints them. The shared options are told once, by `edge-agent -h`.\n"]
    for name, found in commands():
        text = help_text(name, found)
        if name != PROGRAM:
            text = _without_shared(text)
        parts.append(f"## {name}\n```text\n{text}\n```\n")
    return "\n".join(parts)


_SHARED = ("-c, --config", "-o, --output", "-q, --quiet", "-v, --verbose", "--no-color", "-h, --help", "--help")


def _without_shared(text: str) -> str:
    lines: list[str] = []
    inside = False
    for line in text.splitlines():
        starts = line.startswith("  -")
        inside = line.strip().startswith(_SHARED) if starts else inside and line.startswith("    ")
        if not inside:
            lines.append(line)
    kept = "\n".join(lines)
    return kept.replace("Options:\n\n", "").replace("\n\n\n", "\n\n").removesuffix("\nOptions:").rstrip()


def _settings() -> str:
    out = [f"{_MADE}# Settings\n\nEvery key. Durations are `250ms`, `2s`, `5min`, `72h`, "
           "`14d`; sizes `64KiB`, `4GiB`; rates `2/s`.\n"]  # fmt: skip
    out.append(
        "## Top of the file\n"
        "Beside the sections below: `templates` (a machine with `vars`, written once), `include` (files whose "
        "sections belong to this one), `machines_from` (`csv`, `template`, and what is laid over it).\n"
    )
    seen: set[type[BaseModel]] = set()
    out += _model("", Config, seen)
    out += _model("machines.NAME", MachineOptions, seen)
    for name, model in Drivers().options().items():
        out += _model(f"device with driver: {name}", model, seen)
    return "\n".join(out)


def _model(title: str, model: type[BaseModel], seen: set[type[BaseModel]]) -> list[str]:
    if model in seen:
        return []
    seen.add(model)
    texts = docstrings(model)
    rows, below = [], []
    for name, field in model.model_fields.items():
        if model is Config and name in ("devices", "machines"):
            continue
        key = field.alias or name
        rows.append(f"| `{key}` | {_default(field)} | {_cell(texts.get(name, ''))} |")
        for inner in _models_in(field.annotation):
            below += _model(f"{title}.{key}".strip("."), inner, seen)
    heading = f"## {title}\n{_cell(_sentence(model))}\n" if title else ""
    return [f"{heading}\n| key | default | meaning |\n|---|---|---|\n" + "\n".join(rows) + "\n", *below]


def _sentence(model: type[BaseModel]) -> str:
    return (model.__doc__ or "").strip().partition("\n\n")[0]


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.default
    if value is None or isinstance(value, BaseModel) or field.default_factory is not None:
        return ""
    if (written := units.as_written(field, value)) is not value:
        return f"`{written}`"
    if value == () or value == {}:
        return ""
    return f"`{json.dumps(value, default=str)}`".replace('"', "")


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from _models_in(part)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _codes() -> str:
    kinds = {
        "E": "error in a configuration",
        "W": "warning",
        "C": "connection to a device",
        "B": "broker",
        "S": "buffer",
    }
    out = [f"{_MADE}# Codes\n\n`edge-agent explain CODE` prints these pages without a network. "
           f"{'; '.join(f'{letter}: {word}' for letter, word in kinds.items())}.\n"]  # fmt: skip
    out += [f"## {code}: {page.title}\n{page.text}\n" for code, page in pages().items()]
    return "\n".join(out)


def schemas() -> Mapping[str, Any]:
    """Event type → its JSON Schema."""
    folder = resources.files("edge_agent.events") / "schemas"
    found = {}
    for file in folder.iterdir():
        if file.name.endswith(".json"):
            found[file.name.removesuffix(".json")] = json.loads(file.read_text("utf-8"))
    return dict(sorted(found.items()))


def _events() -> str:
    out = [f"{_MADE}# Events\n\nFields of `data` by type, from the JSON Schemas in `edge_agent/events/schemas`. A "
           "real message of every type is in [events.md](../events.md).\n"]  # fmt: skip
    for name, schema in schemas().items():
        data = schema.get("properties", {}).get("data", schema)
        required = set(data.get("required", ()))
        rows = [
            f"| `{key}` | {'yes' if key in required else ''} | {_kind(part)} | {_cell(part.get('description', ''))} |"
            for key, part in data.get("properties", {}).items()
        ]
        title = _cell(schema.get("description", ""))
        table = "| field | required | kind | meaning |\n|---|---|---|---|\n" + "\n".join(rows)
        out.append(f"## {name}\n{title}\n\n{table}\n" if rows else f"## {name}\n{title}\n")
    return "\n".join(out)


def _kind(part: Mapping[str, Any]) -> str:
    if "enum" in part:
        return ", ".join(f"`{word}`" for word in part["enum"])
    if "const" in part:
        return f"`{part['const']}`"
    if "$ref" in part:
        return str(part["$ref"]).rpartition("/")[2]
    kind = part.get("type", "")
    return " or ".join(kind) if isinstance(kind, list) else str(kind)


def man_pages() -> dict[str, str]:
    """File name → content of a man page for each command."""
    made = {}
    for name, found in commands():
        page = name.replace(" ", "-")
        short = found.get_short_help_str(200).rstrip(".")
        lines = [f'.TH "{page.upper()}" 1', ".SH NAME", f"{page} \\- {_roff(short)}", ".SH DESCRIPTION", ".nf"]
        lines += [_roff(line) for line in help_text(name, found).splitlines()]
        made[f"{page}.1"] = "\n".join([*lines, ".fi", ""])
    return made


def _roff(line: str) -> str:
    text = line.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text.startswith((".", "'")) else text


def main(arguments: list[str]) -> None:
    """Write the pages into a folder."""
    man = arguments[:1] == ["--man"]
    folder = Path(arguments[-1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (man_pages() if man else written()).items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
