"""The dictionary of a machine's tags, as it stands retained under `cur/tags` (event model §7.21).

Its revision is a number made of its content, the same wherever and whenever it is worked out: events that leave the
units away carry it, and who keeps the table of that number can read them.
"""

import json
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from config.model import Config


class TagTable(NamedTuple):
    """`tags`: name in events → `tag` (device.tag), `type`, and `unit`, `target`, `lo`, `hi` where configured."""

    revision: int
    tags: Mapping[str, Mapping[str, Any]]


def tag_table(config: Config, machine: str) -> TagTable:
    tags = dict(sorted(_tags(config, machine)))
    text = json.dumps(tags, sort_keys=True, ensure_ascii=False)
    return TagTable(zlib.crc32(text.encode()), tags)


def _tags(config: Config, machine: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every tag of the machine's own device, and what it samples of others."""
    options = config.machines[machine]
    own = config.devices[options.device].tags if options.device is not None else {}
    measured = {ref for each in options.measurements.values() for ref in each.tags}
    metered = {each.tag for each in options.consumption.values()}
    for name in {*own, *measured, *metered}:
        device, tag = config.resolve(machine, name)
        described = config.devices[device].tags[tag]
        known = {word: getattr(described, word, None) for word in ("unit", "target", "lo", "hi")}
        yield (
            name,
            {
                "tag": f"{device}.{tag}",
                "type": config.devices[device].value_type(tag),
                **{word: value for word, value in known.items() if value is not None},
            },
        )
