"""Where a message is published and which asset it is about (event model §1.2, §1.4, §7.20).

The one place that knows the layout of topics; `mqtt.topic_root` replaces `ea/v1`. A machine has the five
levels of its ISA-95 path; the agent itself stands under `_agents`, in topics and in subjects.
"""

from typing import NamedTuple

from config.model import Config

AGENT_STREAM = "$agent.h"


class Place(NamedTuple):
    """One asset: its subject and the root of its topics."""

    subject: str
    root: str

    def event(self, type_: str) -> str:
        """Topic of an event by its short type: `state.changed` → `…/evt/state`; `command.*` goes to `…/ack`."""
        family = type_.partition(".")[0]
        return f"{self.root}/ack" if family == "command" else f"{self.root}/evt/{family}"

    def current(self, what: str) -> str:
        """Retained snapshot: `state`, `downtime`, `order`, `counters`, `tags`."""
        return f"{self.root}/cur/{what}"

    def command(self, class_: str) -> str:
        """Commands by risk class: `ctx`, `adm`, `plc`."""
        return f"{self.root}/cmd/{class_}"

    @property
    def status(self) -> str:
        """Retained birth and will; the agent's place only."""
        return f"{self.root}/status"


def machine_place(config: Config, machine: str) -> Place:
    site = config.site
    line = config.machines[machine].line
    return Place(
        subject=config.subject(machine),
        root=f"{config.mqtt.topic_root}/{site.site}/{site.area}/{line}/{machine}",
    )


def agent_place(config: Config) -> Place:
    site, agent = config.site, config.agent.id
    return Place(
        subject=f"{site.enterprise}/{site.site}/{site.area}/_agents/{agent}",
        root=f"{config.mqtt.topic_root}/_agents/{agent}",
    )
