"""What a new configuration means for an agent that runs with another one: decided here, carried out by `runtime`.

Only what changed is switched. A device whose block is unchanged keeps its connection, a machine that nothing of
concerns goes on untouched, and what names the agent, its streams and its buffer cannot change without a restart.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from config.errors import Fault
from config.model import Config

_RESTART: tuple[tuple[str, Callable[[Config], object]], ...] = (
    ("agent.id", lambda config: config.agent.id),
    ("site.enterprise, site.site and site.area", lambda config: config.site.model_copy(update={"timezone": "UTC"})),
    ("mqtt.topic_root", lambda config: config.mqtt.topic_root),
    ("buffer", lambda config: config.buffer),
)
"""Settings that hold for as long as the agent runs, and how they are read."""
_SWITCHED = frozenset(
    ("version", "agent", "site", "mqtt", "buffer", "http", "calendar", "devices", "machines", "tests")
)
"""Sections that a reload knows."""


class Refused(Exception):
    """The configuration is not taken and the old one goes on; the text says why. `faults` are those of its files."""

    def __init__(self, text: str, faults: Sequence[Fault] = ()) -> None:
        super().__init__(text)
        self.faults = tuple(faults)


class Named(NamedTuple):
    """Names of devices or machines, sorted by what happens to them."""

    kept: tuple[str, ...]
    changed: tuple[str, ...]
    added: tuple[str, ...]
    removed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Changes:
    devices: Named
    machines: Named
    broker: bool
    page: bool = False

    def __bool__(self) -> bool:
        return (
            self.broker or self.page or any(named.changed or named.added or named.removed for named in self._each())
        )

    def told(self) -> str:
        """`2 machines changed (press-1, press-2), 1 device added (oven-1), the broker's connection is made anew`."""
        parts = [
            f"{len(names)} {kind}{'' if len(names) == 1 else 's'} {word} ({', '.join(names[:5])}"
            f"{', …' if len(names) > 5 else ''})"
            for kind, named in zip(("device", "machine"), self._each(), strict=True)
            for word, names in (("changed", named.changed), ("added", named.added), ("removed", named.removed))
            if names
        ]
        parts += ["the broker's connection is made anew"] if self.broker else []
        parts += ["the page is opened anew"] if self.page else []
        return ", ".join(parts) or "nothing changed"

    def as_json(self) -> dict[str, Any]:
        return {
            "devices": {word: list(names) for word, names in self.devices._asdict().items()},
            "machines": {word: list(names) for word, names in self.machines._asdict().items()},
            "broker": "reconnects" if self.broker else "kept",
            "page": "opened anew" if self.page else "kept",
        }

    def _each(self) -> tuple[Named, Named]:
        return self.devices, self.machines


def changes(old: Config, new: Config, uses: Mapping[str, Iterable[str]]) -> Changes:
    """What differs. `uses`: machine of `new` → the devices whose tags it uses. Raises `Refused`."""
    fixed = [words for words, read in _RESTART if read(old) != read(new)]
    fixed += [
        name for name in Config.model_fields if name not in _SWITCHED and getattr(old, name) != getattr(new, name)
    ]
    if fixed:
        raise Refused(f"{', '.join(fixed)} cannot change while the agent runs: restart it")
    devices = _named(old.devices, new.devices, lambda name: old.devices[name] == new.devices[name])
    moved = {*devices.changed, *devices.added}
    everywhere = old.site == new.site and old.calendar == new.calendar

    def same(name: str) -> bool:
        return everywhere and old.machines[name] == new.machines[name] and moved.isdisjoint(uses[name])

    machines = _named(old.machines, new.machines, same)
    return Changes(devices, machines, broker=old.mqtt != new.mqtt, page=old.http != new.http)


def _named(old: Mapping[str, Any], new: Mapping[str, Any], same: Callable[[str], bool]) -> Named:
    both = [name for name in new if name in old]
    return Named(
        tuple(name for name in both if same(name)),
        tuple(name for name in both if not same(name)),
        tuple(name for name in new if name not in old),
        tuple(name for name in old if name not in new),
    )
