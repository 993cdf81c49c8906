#!/usr/bin/env python3
# bench-targets: wan_link antipode-replicator antipode-ca antipode-tiebreaker
"""How much of a 125 MB/s line the channel uses for bulk at 1, 10, 50 and 150 ms of round trip, and what a log entry waits beside it:
link-test over the line emulator, both ends on this machine. Needs network namespaces (root)."""

import json
import os
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "system"))
from lib import paths, process, requirements, world  # noqa: E402  pylint: disable=wrong-import-position
from lib import guests  # noqa: E402  pylint: disable=wrong-import-position

LINE = 125e6
GOAL_MS = 2  # that a log entry waits behind bulk


def measure(the_world, rtt_ms, seconds=8):
    pair = the_world.pair(guests.udp_echo(), name=f"rtt{rtt_ms}")
    the_world.wan.set("a<->b", delay_ms=rtt_ms / 2, rate_mbytes=LINE / 1e6)
    started = [process.Process(
        "link-test", [paths.program("antipode-replicator"), "link-test", site.config, "--json", "--seconds", str(seconds)],
        os.path.join(pair.folder, f"{site.letter}.log"), namespace=the_world.topology.name(site.letter)) for site in (pair.a, pair.b)]
    for each in started:
        if each.finished(120) != 0:
            raise RuntimeError(each.output())
    return json.loads([line for line in started[0].output().splitlines() if line.startswith("{")][-1])


def main():
    requirements.require(requirements.missing_for_namespaces(), requirements.missing_for_guests())
    missed = 0
    with tempfile.TemporaryDirectory() as folder:
        the_world = world.World(folder)
        try:
            for rtt_ms in (1, 10, 50, 150):
                figures = measure(the_world, rtt_ms)
                use = figures["out_bytes_per_second"] / LINE
                missed += use < 0.97
                print(f"channel_at_{rtt_ms}_ms {figures['out_bytes_per_second'] / 1e6:.1f} MB/s goal=>=0.97 ratio={use:.3f}")
                for quantile in ("p50", "p99"):
                    added = figures[f"loaded_{quantile}_ms"] - figures[f"quiet_{quantile}_ms"]
                    missed += added > GOAL_MS
                    print(f"log_beside_bulk_at_{rtt_ms}_ms_{quantile} {added:.2f} ms goal=<={GOAL_MS} ratio={added / GOAL_MS:.3f}",
                          flush=True)
        finally:
            the_world.close()
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
