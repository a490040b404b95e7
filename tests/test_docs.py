"""What the documents say is so: links lead somewhere, every block is run or compared, the reference is current."""

import contextlib
import os
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from config import yaml12
from config.errors import ConfigFaults
from config.load import load_source
from config.schema import schema
from config.source import Source
from drivers.registry import Drivers
from edge_agent.cli import reference
from edge_agent.cli.loading import read
from edge_agent.commands.effects import EFFECTS
from edge_agent.machine.expressions import names
from tests.doc_pages import Block, blocks, commands, fits
from tests.in_process import invoke

LINK = re.compile(r"\]\(([^)#\s]+)")
REGISTRIES = ("pypi" + ".org", "files.python" + "hosted", "registry." + "npmjs", "deb." + "debian")


def tracked(repository, *patterns):
    listed = subprocess.run(["git", "ls-files", "-z", *patterns], cwd=repository, capture_output=True, check=True)
    return [repository / name for name in listed.stdout.decode().split("\0") if name]


def test_every_link_between_documents_leads_to_a_file(repository):
    dead = [
        f"{page.relative_to(repository)}: {link}"
        for page in tracked(repository, "*.md")
        for link in LINK.findall(page.read_text(encoding="utf-8"))
        if "://" not in link and not (page.parent / link).exists()
    ]
    assert dead == []


def test_the_index_names_every_page(repository):
    index = (repository / "docs/README.md").read_text(encoding="utf-8")
    pages = [page.relative_to(repository / "docs") for page in tracked(repository, "docs/*.md")]
    assert [str(page) for page in pages if f"({page})" not in index and page.name != "README.md"] == []


def test_every_file_and_folder_that_the_architecture_names_exists(repository):
    page = (repository / "docs" / "architecture.md").read_text()
    named = set(re.findall(r"`([a-z_/]+(?:\.py|/))`", page))
    homes = [
        repository,
        repository / "edge_agent",
        repository / "edge_agent/machine",
        repository / "edge_agent/delivery",
    ]
    homes += [repository / "edge_agent/events", repository / "edge_agent/commands"]
    assert [name for name in sorted(named) if not any((home / name).exists() for home in homes)] == []
    assert len(named) > 40


def test_the_configuration_in_the_readme_is_sound(repository, tmp_path):
    (block,) = re.findall(r"^```yaml\n(.*?)^```", (repository / "README.md").read_text(encoding="utf-8"), re.M | re.S)
    file = tmp_path / "edge-agent.yaml"
    file.write_text(block, encoding="utf-8")
    (tmp_path / "certs").mkdir()
    (tmp_path / "certs" / "plant-ca.pem").touch()
    try:
        assert read(file).warnings == ()
    except ConfigFaults as broken:
        pytest.fail("\n".join(fault.render() for fault in broken.faults))


def test_every_make_target_in_a_block_is_one(repository):
    targets = set(re.findall(r"^([a-z]+):", (repository / "Makefile").read_text(encoding="utf-8"), re.M))
    for page in tracked(repository, "*.md"):
        block = "".join(re.findall(r"^```\w*\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S))
        assert set(re.findall(r"^make ([a-z]+)", block, re.M)) <= targets, page


def test_no_file_names_a_package_registry(repository):
    named = []
    for file in tracked(repository):
        text = file.read_text(encoding="utf-8", errors="ignore") if file.is_file() else ""
        named += [f"{file.relative_to(repository)}: {host}" for host in REGISTRIES if host in text]
    assert named == []


ROOT = Path(__file__).parents[1]
PAGES = sorted(
    page
    for page in (
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/*.md"),
        *ROOT.glob("drivers/**/*.md"),
        *ROOT.glob("config/**/*.md"),
    )
    if any(block.language in ("yaml", "csv", "console", "sh", "bash", "shell") for block in blocks(page))
)
HEAD = "version: 1\nsite: {enterprise: acme, site: sz1, area: hall}\n"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_of_a_page_is_so(page: Path, tmp_path: Path) -> None:
    agent = None
    try:
        for block in blocks(page):
            where = f"{page.name}:{block.line}"
            assert block.language not in ("sh", "bash", "shell"), f"{where}: write console, which is run"
            if block.language in ("yaml", "csv") and block.word:
                name, _, continued = block.word.partition(" ")
                with (tmp_path / name).open("a" if continued else "w", encoding="utf-8") as file:
                    file.write(block.text)
            elif block.language == "yaml":
                fragment(block, where)
            elif block.language == "console" and block.word == "norun":
                for command, _ in commands(block):
                    understood(command, where)
            elif block.language == "console":
                if block.word in ("running", "stopped") and agent is None:
                    agent = started(tmp_path)
                if block.word == "stopped" and agent is not None:
                    agent.terminate()
                    agent.communicate(timeout=60)
                    agent = None
                for command, expected in commands(block):
                    said = run(command, tmp_path)
                    assert fits(expected, said), f"{where}: {command}\n" + "\n".join(said)
    finally:
        if agent is not None:
            agent.kill()
            agent.communicate()


def fragment(block: Block, where: str) -> None:
    """A piece of a configuration: sound with a head, or, where it is indented, so many settings of one thing by the
    schema that editors use."""
    if not block.text.startswith(" "):
        text = block.text if "version:" in block.text else HEAD + block.text
        try:
            load_source(Source(where, text), Path(), Drivers().options(), names)
        except ConfigFaults as broken:
            pytest.fail(str(broken))
        return
    found = yaml12.plain(yaml12.parse(Source(where, block.text)).root)
    assert any(_is_part_of(found, name) for name in _schema()["$defs"]), f"{where} fits nowhere"


@cache
def _schema() -> dict[str, Any]:
    return schema(Drivers().options())


def _is_part_of(piece: Any, name: str) -> bool:
    """Whether these are settings of the model, or some of it by their names."""
    whole = _schema()
    properties = whole["$defs"][name].get("properties", {})

    def fits(value: Any, kind: Any) -> bool:
        return Draft202012Validator({"$defs": whole["$defs"], **kind}).is_valid(_text_keys(value))

    if properties.keys() >= piece.keys():
        return all(fits(value, properties[key]) for key, value in piece.items())
    return bool(properties) and all(
        isinstance(value, dict) and fits(value, {"$ref": f"#/$defs/{name}"}) for value in piece.values()
    )


def _text_keys(data: Any) -> Any:
    """As an editor's JSON Schema engine sees it."""
    if isinstance(data, dict):
        return {str(key): _text_keys(value) for key, value in data.items()}
    return [_text_keys(item) for item in data] if isinstance(data, list) else data


def environment() -> dict[str, str]:
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "TZ": "UTC"}


def run(command: str, folder: Path) -> list[str]:
    """What a command of a document says, in this process where it is one of ours alone; /etc is a folder here."""
    program, *arguments = shlex.split(command.replace("/etc/", f"{folder}/etc/"))
    if program == "edge-agent" and not {"|", ">", "&&"} & {*arguments}:
        with contextlib.chdir(folder):
            done = invoke(*arguments, env={"TZ": "UTC", "COLUMNS": "80"})
        return done.output.replace(f"{folder}/etc/", "/etc/").splitlines()
    done = subprocess.run(
        command, shell=True, cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, encoding="utf-8", timeout=60,
    )  # fmt: skip
    return done.stdout.splitlines()


def started(folder: Path) -> "subprocess.Popen[str]":
    """An agent that has read something and has tried its broker."""
    agent = subprocess.Popen(
        ["edge-agent", "run"], cwd=folder, env=environment(), stderr=subprocess.PIPE, text=True, encoding="utf-8"
    )
    assert agent.stderr is not None
    wanted = {": up", "B605"}
    for line in agent.stderr:
        wanted -= {word for word in wanted if word in line}
        if not wanted:
            for _ in range(40):  # its first state and count
                if re.search(r'"state": "(?!unknown)', "".join(run("edge-agent status -o json", folder))):
                    return agent
    pytest.fail("the agent of the page has ended")


def understood(command: str, where: str) -> None:
    """The command exists and takes these arguments."""
    words = shlex.split(command)
    assert words[0] == "edge-agent", where
    found = dict(reference.commands())
    depth = next(n for n in range(len(words), 0, -1) if " ".join(words[:n]) in found)
    assert depth > 1, f"{where}: {command}"
    known = found[" ".join(words[:depth])]
    known.make_context(words[depth - 1], list(words[depth:]))


def test_the_reference_is_what_the_program_says_of_itself() -> None:
    stale = [
        name
        for name, text in reference.written().items()
        if not (page := ROOT / "docs/reference" / name).exists() or page.read_text("utf-8") != text
    ]
    assert stale == [], "run: make reference"


def test_every_command_of_the_mom_is_told_with_its_parameters() -> None:
    rows = re.findall(r"^\| `([a-z]+\.[a-z_]+)` \| ([^|]*) \|", (ROOT / "docs/events.md").read_text("utf-8"), re.M)
    told = {name: set(words.split(", ")) for name, words in rows}
    told["order.update"] = told["order.dispatch"]
    assert told == {
        name: {field.alias or key for key, field in effect.parameters.model_fields.items()}
        for name, effect in EFFECTS.items()
    }


def test_every_command_has_a_man_page() -> None:
    pages = reference.man_pages()
    assert len(pages) == len(list(reference.commands()))
    assert ".SH NAME\nedge-agent-validate \\- Check a configuration" in pages["edge-agent-validate.1"]
