"""Texts without secrets: every value that the configuration or the environment holds as one is replaced, wherever it
appears, beside the masks of `config.source` that go by the names of keys.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from config.errors import Problem
from config.load import Loaded
from config.model import Secret
from config.secrets import MASK, resolve
from config.source import is_secret, mask
from config.yaml12 import Map, Node, Scalar, Seq

SHORTEST = 4
"""Characters. What is shorter appears everywhere by chance."""


class Hidden:
    """Knows the secrets; `text` gives a text without them."""

    def __init__(self, loaded: Loaded | None = None, environ: Mapping[str, str] = os.environ) -> None:
        found = {value for name, value in environ.items() if is_secret(name)}
        if loaded is not None:
            for part in loaded.parts.values():
                found |= set(_secrets(part, loaded.base_dir, environ))
        lines = {line for value in found for line in (value, *value.splitlines())}
        self._secrets = sorted((one for one in lines if len(one) >= SHORTEST), key=len, reverse=True)

    def text(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        return mask(text)


def _secrets(node: Node, base_dir: Path, environ: Mapping[str, str]) -> Iterator[str]:
    """Those written below the node, and those that it says are kept elsewhere and can be read."""
    if isinstance(node, Seq):
        for item in node.items:
            yield from _secrets(item, base_dir, environ)
    if not isinstance(node, Map):
        return
    for key, value in node:
        if not is_secret(key.value):
            yield from _secrets(value, base_dir, environ)
        elif isinstance(value, Scalar):
            yield value.raw
        elif isinstance(value, Map):
            places = {str(name.value): place.raw for name, place in value if isinstance(place, Scalar)}
            kept = Secret.model_construct(
                credential=places.get("credential"), file=places.get("file"), env=places.get("env")
            )
            try:
                yield resolve(kept, base_dir=base_dir, environ=environ)
            except Problem:
                continue  # what cannot be read cannot be shown
