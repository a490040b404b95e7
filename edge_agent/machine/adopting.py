"""What a machine keeps when its configuration changes while it runs: everything that still means the same.

Unlike a restart nothing was unseen, so gaps stay as they are, samples are not read anew and running intervals,
averages and sample sets go on. Only what is configured differently begins again.
"""

from collections.abc import Mapping, Sequence

from drivers.base import Reading
from edge_agent.machine.gaps import Gap
from edge_agent.machine.measurements import SetState
from edge_agent.machine.plan import Plan
from edge_agent.machine.record import MachineState
from edge_agent.machine.sample_sets import SetPlan
from edge_agent.machine.samples import Device


def adopted(
    adapted: MachineState,
    known: MachineState,
    plan: Plan,
    sets: Sequence[SetPlan],
    former: Sequence[SetPlan],
    *,
    mapped: bool,
) -> MachineState:
    """`adapted`, the state as a restart would take it up, with what goes on in the same process: that of `known`.
    `mapped`: the state is made as before."""
    running = {plan.name: (plan, state) for plan, state in zip(former, known.sets, strict=True)}
    tracked = known.tracked
    return adapted._replace(
        causes=known.causes,
        archive=known.archive,
        mode=known.mode,
        warned=known.warned,
        devices={name: device for name, device in known.devices.items() if name in plan.devices},
        gaps=_gaps(known.gaps, plan),
        past={key: values for key, values in known.past.items() if key in plan.windows},
        tracked=tracked if mapped else tracked._replace(candidate=None, doubt=None, revisit=None, claimed=None),
        sets=tuple(_set_state(plan, running) for plan in sets),
    )


def _set_state(plan: SetPlan, running: Mapping[str, tuple[SetPlan, SetState]]) -> SetState:
    known = running.get(plan.name)
    return SetState() if known is None or known[0] != plan else known[1]


def _gaps(open_gaps: Mapping[str, Gap], plan: Plan) -> dict[str, Gap]:
    """Open gaps cover the tags that are essential now."""
    found: dict[str, Gap] = {}
    essential = {key for device in plan.devices.values() for key in device.essential.values()}
    for key, gap in open_gaps.items():
        tags = tuple(tag for tag in gap.tags if tag in essential)
        if key in plan.devices:
            elsewhere = {tag for other in open_gaps.values() for tag in other.tags}
            new = (tag for tag in plan.devices[key].essential.values() if tag not in elsewhere)
            found[key] = gap._replace(tags=(*tags, *new))
        elif tags:
            found[key] = gap._replace(tags=tags)
    return found


def moved_tags(before: Mapping[str, str], plan: Plan) -> frozenset[str]:
    """Essential tags whose values cannot be compared with those read `before`, by the fingerprints of then."""
    after = plan.fingerprints
    keys = (key for device in plan.devices.values() for key in device.essential.values())
    return frozenset(key for key in keys if before.get(f"tag {key}") not in (None, after[f"tag {key}"]))


def moved(before: Mapping[str, str], plan: Plan) -> list[str]:
    """Devices with such tags."""
    return sorted({key.partition("/")[0] for key in moved_tags(before, plan)})


def unheard(readings: Sequence[Reading], device: Device | None) -> list[Reading]:
    """The readings that the machine has not had yet. They are old, but the machine hears of them now."""
    last = {} if device is None else device.last
    return [reading._replace(source_time=None) for reading in readings if last.get(reading[0]) is not reading]
