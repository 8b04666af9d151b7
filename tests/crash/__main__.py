"""Kill the server again and again, and see that nothing acknowledged is lost.

`make crash`, or `PYTHONPATH=tests python -m crash --kills 50 --seed 7`. It ends with
one line of numbers; with exit code 1 and the work folder kept if something was lost.
"""

import argparse
import asyncio
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from .killing import Plan, Run


def main() -> int:
    """Run it: 0 all was kept, 1 it was not."""
    plan = _parsed()
    again = (
        f"PYTHONPATH=tests python -m crash --kills {plan.kills} --seed {plan.seed}"
        f" --workers {plan.workers} --connections {plan.connections}"
    )
    print(again, flush=True)
    folder = Path(tempfile.mkdtemp(prefix="crash-"))
    run, begun = Run(plan, folder), time.monotonic()
    asyncio.run(run.run())
    outcome = run.outcome
    met = ", ".join(f"{what} {n}" for what, n in outcome.evidence.met.most_common())
    print(f"uploads when the server was dead: {met}")
    print(f"{outcome.summary()}, {time.monotonic() - begun:.0f} s")
    if not outcome.violations:
        shutil.rmtree(folder)
        return 0
    for violation in outcome.violations:
        print(f"crash: {violation}", file=sys.stderr)
    print(f"crash: the files are left in {folder}; again: {again}", file=sys.stderr)
    return 1


def _parsed() -> Plan:
    parser = argparse.ArgumentParser(
        prog="python -m crash", description=(__doc__ or "").partition("\n")[0]
    )
    seed = random.SystemRandom().randrange(1_000_000)
    parser.add_argument("--kills", type=int, default=200, help="default: 200")
    parser.add_argument("--seed", type=int, default=seed, help="default: any")
    parser.add_argument("--workers", type=int, default=1, help="default: 1")
    parser.add_argument("--connections", type=int, default=4, help="default: 4")
    return Plan(**vars(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
