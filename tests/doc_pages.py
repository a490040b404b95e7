"""The blocks of a document: files are written, consoles are run, fragments are compared with what there is.

The word behind the language says what a block is: `yaml NAME` and `csv NAME` are files of the page's folder, and
`yaml NAME continued` is the next part of one.
`console` is run in it and its output compared: `…` stands for anything, a line of it alone for any lines. `console
running` is the same beside an agent that runs with `edge-agent.yaml`, `console stopped` after one has ended, and of
`console norun` only the command lines are checked.
"""

import re
from pathlib import Path
from typing import NamedTuple

BLOCK = re.compile(r"^```(\w+)(?: ([^\n]*))?\n(.*?)^```", re.M | re.S)


class Block(NamedTuple):
    language: str
    word: str
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    text = page.read_text("utf-8")
    return [
        Block(found[1], found[2] or "", found[3], text.count("\n", 0, found.start()) + 1)
        for found in BLOCK.finditer(text)
    ]


def commands(block: Block) -> list[tuple[str, list[str]]]:
    """Each command of a console with the lines that it should say."""
    found: list[tuple[str, list[str]]] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        else:
            found[-1][1].append(line)
    return found


def fits(expected: list[str], said: list[str]) -> bool:
    """Whether the lines said are those expected."""
    if not expected:
        return not said
    if expected[0] == "…":
        return any(fits(expected[1:], said[n:]) for n in range(len(said) + 1))
    return bool(said) and _alike(expected[0], said[0]) and fits(expected[1:], said[1:])


def _alike(expected: str, said: str) -> bool:
    words = [re.escape(" ".join(part.split())) for part in expected.split("…")]
    return re.fullmatch(".*".join(words), " ".join(said.split())) is not None or said.rstrip() == expected.rstrip()
