"""The agent on a computer whose wall clock shows another time: `python -m tests.e2e.another_day SECONDS PYTHON -m …`.

The first argument is how far ahead of the real clock it is; what follows is the command as it would be without.
"""

import runpy
import sys

from edge_agent.clock import Instant, SystemClock

if __name__ == "__main__":
    ahead, _, dash_m, module, *arguments = sys.argv[1:]
    assert dash_m == "-m"
    real = SystemClock.now

    def now(self: SystemClock) -> Instant:
        at = real(self)
        return at._replace(wall=at.wall + int(ahead) * 1_000_000)

    SystemClock.now = now
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
