"""The program as a whole: help, exits, streams, and what it does before a command runs."""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import Result

from edge_agent.cli.exits import ExitCode, Stop, guard
from edge_agent.cli.ui import Ui

from .conftest import PROGRAM, program

Run = Callable[..., Result]
COMMANDS = ["init", "validate", "explain", "test", "replay", "once", "run", "status", "tail", "version"]


HEAVY = ["rich", "sqlite3", "asyncua", "paho", "cryptography", "jsonschema", "serial", "edge_agent.machine.machine"]
"""What a quick answer cannot afford; `python -m benchmarks --only s` measures what it takes."""


@pytest.mark.parametrize(
    ("arguments", "too"),
    [
        (["--help"], ["pydantic", "asyncio", "yaml", "config", "drivers"]),
        (["validate", "edge-agent.yaml"], ["asyncio"]),
        (["status"], []),
        (["explain", "E301"], ["asyncio", "yaml", "drivers"]),
    ],
    ids=lambda each: each[0] if each else "",
)
def test_a_command_imports_nothing_that_it_does_not_need(
    running: "subprocess.Popen[str]", configuration: Path, arguments: list[str], too: list[str]
) -> None:
    script = (
        f"import sys\nsys.argv = ['edge-agent', *{arguments!r}]\nfrom edge_agent.__main__ import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"print('imported:', [module for module in {[*HEAVY, *too]!r} if module in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=configuration.parent,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.splitlines()[-1] == "imported: []"
    assert len(done.stdout.splitlines()) > 1


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_the_help_of_every_command_ends_with_two_examples(edge_agent: Run, name: str, flag: str) -> None:
    done = edge_agent(name, flag)
    assert done.exit_code == 0
    *_, title, one, two = done.stdout.rstrip().splitlines()
    assert title.strip() == "Examples:"
    assert one.strip().startswith(f"edge-agent {name}")
    assert two.strip().startswith(f"edge-agent {name}")


def test_the_overview_names_every_command_by_section(edge_agent: Run) -> None:
    text = edge_agent("--help").stdout
    for word in ("Start:", "Check:", "Run:", "demo", "config", *COMMANDS):
        assert word in text


def test_demo_is_loaded_when_it_is_called(edge_agent: Run) -> None:
    done = edge_agent("demo", "--help")
    assert done.exit_code == 0
    assert "--save" in done.stdout


@pytest.mark.parametrize("arguments", [["nothing"], ["validate", "--nothing"], ["validate", "-o", "xml"], ["replay"]])
def test_wrong_usage_is_exit_2(edge_agent: Run, arguments: list[str]) -> None:
    assert edge_agent(*arguments).exit_code == ExitCode.USAGE


def test_a_bug_leaves_a_file_and_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def buggy() -> None:
        raise ZeroDivisionError("somewhere deep")

    with pytest.raises(typer.Exit) as end:
        guard(Ui(), buggy)
    assert end.value.exit_code == ExitCode.BUG
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    assert "this is a bug in edge-agent: ZeroDivisionError" in said.err
    (kept,) = tmp_path.iterdir()
    assert str(kept) in said.err
    assert "somewhere deep" in kept.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (PermissionError(13, "Permission denied", "/etc/x"), ExitCode.NO_PERMISSION),
        (FileExistsError(17, "File exists", "/etc/x"), ExitCode.WILL_NOT_OVERWRITE),
        (OSError(28, "No space left on device", "/etc/x"), ExitCode.TRY_AGAIN),
        (KeyboardInterrupt(), ExitCode.INTERRUPTED),
        (BrokenPipeError(), ExitCode.FINE),
        (Stop(ExitCode.UNREACHABLE, "nobody there"), ExitCode.UNREACHABLE),
    ],
)
def test_every_end_has_its_code(raised: BaseException, code: int) -> None:
    def command() -> None:
        raise raised

    saved = os.dup(1)
    try:
        with pytest.raises(typer.Exit) as end:
            guard(Ui(), command)
    finally:
        os.dup2(saved, 1)
        os.close(saved)
    assert end.value.exit_code == code


def test_a_fault_has_stable_keys_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> None:
        raise Stop(ExitCode.UNREACHABLE, "nobody there", hints=["call"], fault="C501", native="errno 111")

    with pytest.raises(typer.Exit):
        guard(Ui(json=True), command)
    said = capsys.readouterr()
    assert json.loads(said.out) == {
        "ok": False,
        "exit": 69,
        "code": "C501",
        "error": "nobody there",
        "hints": ["call"],
    }
    assert said.err == "error C501: nobody there\n   call\n"


def test_raw_words_of_libraries_are_shown_under_v_alone(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> None:
        raise Stop(ExitCode.UNREACHABLE, "nobody there", native="errno 111")

    for verbose in (False, True):
        with pytest.raises(typer.Exit):
            guard(Ui(verbose=verbose), command)
        assert ("errno 111" in capsys.readouterr().err) is verbose


def test_options_stand_before_or_after_the_command_or_in_the_environment(edge_agent: Run) -> None:
    plain = edge_agent("version").stdout
    assert plain.startswith("edge-agent ")
    for done in (
        edge_agent("version", "-o", "json"),
        edge_agent("-o", "json", "version"),
        edge_agent("version", env={"EDGE_AGENT_OUTPUT": "json"}),
    ):
        assert json.loads(done.stdout).keys() == {"version", "python", "system"}


def test_colour_needs_a_terminal_that_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal:
        def isatty(self) -> bool:
            return True

    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    assert Ui().paint("UP", "green", terminal) == "\x1b[32mUP\x1b[0m"
    assert Ui(colour=False).paint("UP", "green", terminal) == "UP"
    monkeypatch.setenv("TERM", "dumb")
    assert Ui().paint("UP", "green", terminal) == "UP"
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    assert Ui().paint("UP", "green", terminal) == "UP"


def test_a_reader_that_goes_away_is_no_trouble() -> None:
    schema = subprocess.Popen([*PROGRAM, "config", "schema"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert schema.stdout is not None
    schema.stdout.read(10)
    schema.stdout.close()
    assert schema.stderr is not None
    assert schema.stderr.read() == b""
    schema.stderr.close()
    assert schema.wait(60) == 0


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_behind_the_output_is_one_sentence(form: str, unbuffered: str) -> None:
    with open("/dev/full", "w") as full:
        told = subprocess.run(
            [*PROGRAM, "version", "-o", form],
            env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (told.returncode, told.stderr) == (ExitCode.TRY_AGAIN, "error: No space left on device\n")


@pytest.mark.parametrize("closed", [">&-", "2>&-"])
def test_closed_output_is_no_trouble(configuration: Path, closed: str) -> None:
    command = f"{shlex.join([*PROGRAM, 'validate', str(configuration)])} {closed}"
    told = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert (told.returncode, told.stderr) == (0, "")


def test_output_is_utf_8_on_any_locale(configuration: Path) -> None:
    told = configuration.read_text(encoding="utf-8") + "tests:\n  - {name: 急停, machine: press-1, given: []}\n"
    configuration.write_text(told, encoding="utf-8")
    env = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii:strict"}
    done = program("test", str(configuration), env=env)
    assert done.returncode == 0, done.stderr
    assert "PASS  急停" in done.stdout


@pytest.mark.parametrize("name", ["config", "drivers", "buffer"])
def test_a_package_that_takes_our_name_is_named_before_it_is_imported(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("raise SystemExit('imported')")
    done = program("version", cwd="/", env={"PYTHONPATH": str(tmp_path)})
    assert done.returncode == ExitCode.BAD_CONFIG
    assert f"the package '{name}' of edge-agent is hidden by {tmp_path / name}" in done.stderr
    assert len(done.stderr.splitlines()) == 1
