"""The shipped examples tell their stories: every test of every example passes."""

from pathlib import Path

import pytest

from edge_agent.cli.loading import read
from edge_agent.replay.suite import run_test
from edge_agent.replay.told import Where, told

EXAMPLES = sorted((Path(__file__).parents[2] / "config" / "examples").glob("*.yaml"))
STORIES = [
    pytest.param(path.name, config, index, id=f"{path.stem}: {test.name}")
    for path in EXAMPLES
    for config in [read(path).config]
    for index, test in enumerate(config.tests)
]


@pytest.mark.parametrize(("name", "config", "index"), STORIES)
def test_the_story_of_an_example(name, config, index):
    result = run_test(config, config.tests[index])
    assert result.passed, "\n".join(told(result, index, Where(name, {})))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_machine_that_an_example_tells_of_has_a_name_of_its_line(path):
    config = read(path).config
    assert {test.machine for test in config.tests} <= config.machines.keys()
    assert len({test.name for test in config.tests}) == len(config.tests)
