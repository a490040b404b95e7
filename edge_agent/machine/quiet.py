"""A batch that says no more than that the device lives: most of the scans of most machines.

Every reading is the very object of the batch before, nothing is due, and no gap, register or sample set waits for
a sign of life. Then a step would only note the time, and that is done here at half its price.
"""

from drivers.base import Batch
from edge_agent.clock import Instant
from edge_agent.machine.plan import Plan
from edge_agent.machine.record import MachineState
from edge_agent.machine.samples import Device


def quiet(plan: Plan, state: MachineState, batch: Batch, now: Instant) -> MachineState | None:
    """The state after the batch, as a whole step would leave it; None if it takes a step. Only for machines without
    sample sets."""
    _, readings, overflow, restarted, _, recalled, entries = batch
    if state.wake is None or state.wake <= now.mono or state.gaps or overflow or restarted:
        return None
    device, own = state.devices.get(batch.device), plan.devices[batch.device]
    if device is None or recalled is not None or entries is not None or own.conditions:
        return None
    if plan.checked or state.tracked.revisit is not None:
        return None
    known = device.last
    for reading in readings:
        if known.get(reading[0]) is not reading and reading[0] in own.used:
            return None
    for group in state.groups.values():
        for register in group.registers.values():
            if register.suspect is not None:
                return None
    devices = {**state.devices, batch.device: Device(now, *device[1:])}
    return MachineState(now, state.seq_p, state.seq_m, devices, *state[4:])
