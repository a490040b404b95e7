"""`edge-agent config`: what a configuration may say, what this one says and where, and what of it runs."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge_agent.cli.command import Section, command
from edge_agent.cli.exits import ExitCode, Stop
from edge_agent.cli.loading import File, find, load
from edge_agent.cli.ui import Ui

if TYPE_CHECKING:
    from config.load import Loaded

Machine = Annotated[str | None, typer.Option("--machine", metavar="NAME", help="One machine and its device only.")]
VERSION = 1
"""Of the file's language."""


def register(app: typer.Typer) -> None:
    group = typer.Typer(
        name="config", no_args_is_help=True, rich_markup_mode=None, rich_help_panel=Section.KEEP.value
    )

    @group.callback()
    def about() -> None:
        """What a configuration says, may say, and says differently from what runs."""

    @command(
        group,
        section=Section.KEEP,
        examples=["edge-agent config schema", "edge-agent config schema > edge-agent.schema.json"],
    )
    def schema(ui: Ui) -> None:
        """The JSON Schema of the configuration, for completion and hover texts in an editor."""
        import json

        from config.schema import schema as schema_of
        from drivers.registry import Drivers

        ui.result(json.dumps(schema_of(Drivers().options()), indent=2, ensure_ascii=False))

    @command(
        group, section=Section.KEEP, examples=["edge-agent config show", "edge-agent config show --machine press-1"]
    )
    def show(ui: Ui, file: File = None, machine: Machine = None) -> None:
        """The configuration with its templates expanded and the place where each value was written; no secrets."""
        loaded = load(ui, file)
        wanted = _of_machine(loaded, machine)
        if ui.json:
            ui.result({"file": loaded.file, "hash": loaded.hash, **as_json(loaded, wanted)})
            return
        for line in shown(loaded, wanted):
            ui.result(line)

    @command(group, section=Section.KEEP, examples=["edge-agent config diff", "edge-agent config diff line3.yaml"])
    def diff(ui: Ui, file: File = None) -> None:
        """What a reload would change: the file against the running agent. Exit code 3 if there is something."""
        from config.load import dumped
        from config.secrets import masked
        from edge_agent.cli.running import client, reached

        loaded = load(ui, file)
        agent = client(ui, file)
        runs = reached(lambda: agent.ask("config"))
        found = list(differences(runs["config"], masked(dumped(loaded.config))))
        if ui.json:
            said = [{"path": path, "running": old, "file": new} for path, old, new in found]
            ui.result({"ok": not found, "running": runs["config_hash"], "file": loaded.hash, "differences": said})
        else:
            written = _raw(loaded)
            for path, old, new in (leaf for difference in found for leaf in _leaves(*difference, written)):
                origin, raw = loaded.origins.get(path), written.get(path, "")
                ui.result(f"{path}: {_said(old, raw)} -> {_said(new, raw)}{f'    # {origin}' if origin else ''}")
            count = f"{len(found)} difference{'s' if len(found) > 1 else ''}"
            ui.result(f"{count}; edge-agent reload takes it over" if found else "no difference")
        if found:
            raise Stop(ExitCode.PROBLEM)

    @command(
        group, section=Section.KEEP, examples=["edge-agent config migrate", "edge-agent config migrate old.yaml"]
    )
    def migrate(ui: Ui, file: File = None) -> None:
        """Bring a file of an older version of this language up to date; there is one version, 1, so far."""
        from config import yaml12
        from config.errors import ConfigFaults
        from config.source import read
        from edge_agent.cli.loading import report

        path = find(ui, file)
        try:
            version = yaml12.plain(yaml12.parse(read(path)).root).get("version")
        except ConfigFaults as broken:
            report(ui, path, broken.faults)
            raise Stop(ExitCode.BAD_CONFIG) from None
        if version != VERSION:
            said = "no version" if version is None else f"version {version!r}"
            hints = [f"write version: {VERSION} at its top", "a newer edge-agent may know that version"]
            raise Stop(ExitCode.BAD_CONFIG, f"{path} has {said}, and this edge-agent knows {VERSION}", hints=hints)
        if ui.json:
            ui.result({"ok": True, "file": str(path), "version": version, "changed": False})
        else:
            ui.result(f"{path} is of version {VERSION}, which is the newest; nothing to do")

    app.add_typer(group)


def _of_machine(loaded: "Loaded", machine: str | None) -> list[tuple[str, ...]]:
    """The parts to show."""
    if machine is None:
        return list(loaded.parts)
    if machine not in loaded.config.machines:
        from config.errors import did_you_mean

        near = did_you_mean(machine, loaded.config.machines)
        raise Stop(ExitCode.USAGE, f"there is no machine {machine!r}", hints=[near] if near else [])
    device = loaded.config.machines[machine].device
    return [path for path in loaded.parts if path in (("devices", device), ("machines", machine))]


def shown(loaded: "Loaded", wanted: list[tuple[str, ...]]) -> Iterator[str]:
    """Lines of YAML; each value with where it was written."""
    section = ""
    for path in wanted:
        if len(path) > 1 and path[0] != section:
            yield f"{path[0]}:"
        section = path[0]
        yield from _lines(loaded.parts[path], path[-1], "  " * (len(path) - 1), loaded.file)


def _lines(node: Any, name: str, indent: str, file: str) -> Iterator[str]:
    from config.yaml12 import Map, Scalar, Seq

    if isinstance(node, Map) and node.items:
        yield f"{indent}{name}:" if name != "-" else f"{indent}-"
        for key, value in node:
            yield from _lines(value, _word(key), f"{indent}  ", file)
    elif isinstance(node, Seq) and any(not isinstance(item, Scalar) for item in node.items):
        yield f"{indent}{name}:"
        for item in node.items:
            yield from _lines(item, "-", f"{indent}  ", file)
    else:
        text = f"{indent}{name} {_value(node, name)}" if name == "-" else f"{indent}{name}: {_value(node, name)}"
        yield f"{text:<48}  # {_origin(node, file)}"


def _word(key: Any) -> str:
    return f"'{key.raw}'" if key.quoted and not key.raw.replace("-", "").replace("_", "").isalnum() else str(key.raw)


def _value(node: Any, name: str) -> str:
    from config.secrets import MASK
    from config.source import is_secret, mask
    from config.yaml12 import Map, Scalar

    if isinstance(node, Map):
        return "{}"
    if not isinstance(node, Scalar):
        return f"[{', '.join(_value(item, name) for item in node.items)}]"
    if is_secret(name) and node.value is not None:
        return f"'{MASK}'"
    if isinstance(node.value, str):
        text = mask(node.value)
        plain = text and not set(text) & set(":#{}[],&*!|>'\"%@`\n") and not node.quoted
        return text if plain else "'" + text.replace("'", "''") + "'"
    return node.raw or "null"


def _origin(node: Any, file: str) -> str:
    from config.load import Origin

    return str(Origin(node.span.file or file, node.span.line, node.template))


def as_json(loaded: "Loaded", wanted: list[tuple[str, ...]]) -> dict[str, Any]:
    """`config` as written, `origins` by dotted path."""
    from config import yaml12
    from config.secrets import masked

    tree: dict[str, Any] = {}
    for path in wanted:
        place = tree
        for step in path[:-1]:
            place = place.setdefault(step, {})
        place[path[-1]] = yaml12.plain(loaded.parts[path])
    prefixes = tuple(".".join(path) for path in wanted)
    origins = {
        path: {"file": origin.file, "line": origin.line, "template": origin.template}
        for path, origin in loaded.origins.items()
        if path.startswith(tuple(f"{prefix}." for prefix in prefixes)) or path in prefixes
    }
    return {"config": _texts(masked(tree)), "origins": origins}


def _texts(data: Any) -> Any:
    """JSON has text keys only."""
    from config.source import mask

    if isinstance(data, Mapping):
        return {str(key): _texts(value) for key, value in data.items()}
    if isinstance(data, list):
        return [_texts(value) for value in data]
    return mask(data) if isinstance(data, str) else data


def differences(old: Any, new: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(dotted path, old, new) of everything that differs; None where something is not there."""
    if path == "tests":
        return
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in [*new, *(key for key in old if key not in new)]:
            yield from differences(old.get(key), new.get(key), f"{path}.{key}" if path else str(key))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from differences(one, other, f"{path}.{index}")
    elif old != new:
        yield path, old, new


def _leaves(path: str, old: Any, new: Any, written: Mapping[str, str]) -> Iterator[tuple[str, Any, Any]]:
    """Of what is new as a whole the single values that were written; anything else as it is."""
    if old is None and isinstance(new, Mapping) and any(leaf.startswith(f"{path}.") for leaf in written):
        for key, value in new.items():
            leaf = f"{path}.{key}"
            if leaf in written or any(one.startswith(f"{leaf}.") for one in written):
                yield from _leaves(leaf, None, value, written)
    else:
        yield path, old, new


def _raw(loaded: "Loaded") -> dict[str, str]:
    """Single values as they are written, by dotted path."""
    from config.yaml12 import Scalar, walk

    return {
        ".".join(map(str, (*prefix, *path))): node.raw
        for prefix, part in loaded.parts.items()
        for path, node in walk(part)
        if isinstance(node, Scalar)
    }


def _said(value: Any, raw: str) -> str:
    """The value, in the kind of unit that `raw` is written in."""
    import json

    from config.units import like

    if value is None:
        return "nothing"
    if isinstance(value, int | float) and not isinstance(value, bool) and raw:
        return like(raw, value)
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}…"
