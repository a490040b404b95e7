"""A command in this process: what `edge-agent` would say and with which code it would end."""

import sys
from collections.abc import Mapping
from functools import cache
from typing import Any

from typer.main import get_command
from typer.testing import CliRunner, Result

from edge_agent.cli.app import app


@cache
def _program() -> Any:
    """All commands, built once: `CliRunner.invoke` builds the hundred of them at each call, for 50 ms."""
    return get_command(app)


def invoke(*arguments: str, input: str | None = None, env: Mapping[str, str | None] | None = None) -> Result:
    """What is no `SystemExit` is the caller's."""
    runner = CliRunner()
    with runner.isolation(input=input, env=env) as (out, err, both):
        end = SystemExit(0)
        try:
            _program().main(args=arguments, prog_name="edge-agent")
        except SystemExit as said:
            end = said
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        return Result(runner, out.getvalue(), err.getvalue(), both.getvalue(), None, code, end if code else None)
