"""The JSON Schemas (draft 2020-12) of everything the agent publishes, as they ship with it.

Written by hand from the event model, not derived from the code, so that each can prove the other wrong. A schema
`<type>.json` describes the `data` of that event and is named by the event's `dataschema`; `envelope.json` is the
CloudEvent round it; `agent.status` and `cur.*` are whole messages. The schemas are open: consumers must ignore
members they do not know, or a new optional one would break them.
"""

import json
from functools import cache
from importlib.resources import files
from typing import Any

_FOLDER = files(__package__) / "schemas"


@cache
def load() -> dict[str, dict[str, Any]]:
    """Every schema by its short name: `state.changed`, `envelope`, `agent.status`, `common` …"""
    return {
        file.name.removesuffix(".json"): json.loads(file.read_text(encoding="utf-8"))
        for file in sorted(_FOLDER.iterdir(), key=lambda file: file.name)
        if file.name.endswith(".json")
    }
