"""docs/events.md tells of every type of event, with a real message of each."""

import json
import re

import pytest

from edge_agent.events import types
from edge_agent.events.topics import Place
from edge_agent.events.types import Data
from tests.event_samples import PAGE, block, filled, samples
from tests.schema_check import check_message

TYPES = sorted(
    kind.TYPE for kind in vars(types).values() if isinstance(kind, type) and issubclass(kind, Data) and kind.TYPE
)


@pytest.fixture(scope="module")
def page():
    return PAGE.read_text(encoding="utf-8")


def test_the_samples_in_the_documents_are_what_the_examples_make_now(page):
    assert filled(page) == page, "run: python -m tests.event_samples"


def test_every_type_has_a_sample_and_every_sample_is_valid(page):
    blocks = re.findall(r"<!-- sample: (\S+) -->\n```json\n(.*?)\n```", page, re.S)
    assert sorted(type_ for type_, _ in blocks) == TYPES
    for type_, text in blocks:
        topic = Place("", "ea/v1/a/b/c/d").event(type_)
        assert check_message(topic, text.encode())["type"] == f"dev.edgeagent.{type_}.v1"


def test_a_block_is_the_event_it_shows():
    for event in samples().values():
        assert json.loads(block(event)) == event
