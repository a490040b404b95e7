"""`edge-agent test`: the stories of `tests:` through the rules, without a PLC."""

from typing import Annotated

import typer

from edge_agent.cli.command import Section, command
from edge_agent.cli.exits import ExitCode, Stop
from edge_agent.cli.loading import File, load
from edge_agent.cli.ui import Ui

Filter = Annotated[str | None, typer.Option("-k", metavar="TEXT", help="Only tests with this text in their name.")]


def register(app: typer.Typer) -> None:
    @command(app, section=Section.CHECK, examples=["edge-agent test", 'edge-agent test line3.yaml -k "open guard"'])
    def test(ui: Ui, file: File = None, only: Filter = None) -> None:
        """Run the tests of a configuration against its rules; no PLC, no broker, no waiting."""
        from edge_agent.replay.suite import run_test
        from edge_agent.replay.told import Where, as_json, told

        loaded = load(ui, file)
        tests = loaded.config.tests
        chosen = [n for n, one in enumerate(tests) if only is None or only.casefold() in one.name.casefold()]
        if tests and not chosen:
            raise Stop(ExitCode.USAGE, f"no test has {only!r} in its name")
        places = {path: place for path, place in loaded.origins.items() if path.startswith("tests.")}
        file_name = next((place.file for place in places.values()), "")
        where = Where(file_name, {path: (place.file, place.line) for path, place in places.items()})
        failed = 0
        results = []
        for index in chosen:
            result = run_test(loaded.config, tests[index])
            failed += not result.passed
            if ui.json:
                results.append(as_json(result, index, where))
            elif result.passed:
                if not ui.quiet:
                    ui.result(f"{ui.paint('PASS', 'green')}  {result.test.name}")
            else:
                ui.result(f"{ui.paint('FAIL', 'red')}  {result.test.name}  ({where.of(index)})")
                ui.result("\n".join(told(result, index, where)))
        passed = len(chosen) - failed
        if ui.json:
            ui.result({"ok": not failed, "passed": passed, "failed": failed, "tests": results})
        else:
            ui.result(f"{passed} passed, {failed} failed" if failed else f"{passed} passed" if tests else "no tests")
        if failed:
            raise Stop(ExitCode.PROBLEM)
