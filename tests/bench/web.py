#!/usr/bin/env python3
# bench-targets: bench_web wan_link antipode-replicator antipode-tiebreaker antipode-ca antipode-web antipode_guests
"""The web daemon's speed, and that its load is nobody else's.

    web.py [--seconds N] [--rounds N]

1. bench_web: requests a second and p99 of a pair's status with 200 live subscribers.
2. A protected VM under a steady load, 20 ms of round trip: the round trip and loss of its heartbeats and the delay of its
   outputs, in turns with the site's web daemon idle and saturated (clients that ask for statuses as fast as they are
   answered, and 200 live subscribers). The goal is a ratio to idle, of the same run: at most 1.25 for the medians of the
   heartbeats' round trip and of the output delay's p50, no heartbeat lost more than idle. Processes have the niceness of
   their units; the clients, which are somewhere else in life, have 19. Needs root and KVM (else 77)."""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "system"))
from lib import control, guests, paths, process, requirements, world  # noqa: E402  pylint: disable=wrong-import-position

RATIO_GOAL = 1.25
LOSS_GOAL = 0.02
REQUESTERS = 8
SUBSCRIBERS = 200
UNIT = os.path.join(paths.ROOT, "packaging", "systemd", "antipode-web.service")


def niceness():
    with open(UNIT, encoding="utf-8") as file:
        found = re.search(r"^Nice=(-?\d+)$", file.read(), re.MULTILINE)
    return found.group(1) if found else "0"


CLIENT = """
import http.client, os, sys, threading
os.nice(19 - os.nice(0))
port, requesters, subscribers = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
counts = [0] * requesters
def ask(i):
    c = http.client.HTTPConnection("127.0.0.1", port)
    while True:
        c.request("GET", "/api/v1/pairs/vm0"); c.getresponse().read(); counts[i] += 1
def follow():
    c = http.client.HTTPConnection("127.0.0.1", port)
    c.request("GET", "/api/v1/live?pair=vm0"); r = c.getresponse()
    while r.read1(65536): pass
for _ in range(subscribers): threading.Thread(target=follow, daemon=True).start()
for i in range(requesters): threading.Thread(target=ask, args=(i,), daemon=True).start()
sys.stdin.readline()
print(sum(counts), flush=True)
os._exit(0)
"""


def histogram(text, name):
    """Cumulative counts by upper bound."""
    found = {}
    for bound, count in re.findall(rf'^{name}_bucket{{[^}}]*le="([^"]+)"[^}}]*}} (\S+)$', text, re.MULTILINE):
        found[float(bound)] = float(count)
    return found


def quantile(before, after, q):
    """Of what came between, in the middle of its bucket; None if nothing did."""
    bounds = sorted(after)
    counts = [after[b] - before.get(b, 0) for b in bounds]
    if not counts or counts[-1] == 0:
        return None
    lower, below = 0.0, 0.0
    for bound, count in zip(bounds, counts):
        if count >= q * counts[-1]:
            if bound == float("inf"):
                return lower
            return lower + (bound - lower) * (q * counts[-1] - below) / max(count - below, 1)
        lower, below = bound, count
    return lower


class Stage:
    def __init__(self, folder):
        self.world = world.World(folder, delay_ms=10)
        self.pair = self.world.pair(guests.udp_echo())
        self.pair.start()
        self.client = self.world.client(self.pair, options=["--interval-ms", "5"])
        self.client.wait_for_acknowledged(100)
        self.namespace = self.pair.topology.name("a")
        config = os.path.join(folder, "web.toml")
        with open(config, "w", encoding="utf-8") as file:
            file.write(f'[state]\ndirectory = "{folder}/web"\n[control]\ndirectories = ["{self.pair.a.folder}"]\n')
        web = [paths.program("antipode-web"), "--config", config]
        process.run([*web, "init"])
        self.daemon = process.Process("web", ["nice", "-n", niceness(), *web], os.path.join(folder, "web.log"), namespace=self.namespace)
        self.daemon.wait_for_line("listening on")

    def load(self, on):
        if not on:
            return None
        argv = process.in_namespace(self.namespace, [sys.executable, "-c", CLIENT, "8080", str(REQUESTERS), str(SUBSCRIBERS)])
        return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def window(self, seconds):
        """(median heartbeat round trip, loss, output delay p50, p99) of a while."""
        before = histogram(control.call(self.pair.a.socket, "metrics"), "antipode_output_delay_seconds")
        trips, losses = [], []
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            link = self.pair.a.status()["link"]
            trips.append(link["rtt_seconds"])
            losses.append(link["loss_ratio"] or 0)
            time.sleep(0.1)
        after = histogram(control.call(self.pair.a.socket, "metrics"), "antipode_output_delay_seconds")
        return (statistics.median(trips), statistics.mean(losses), quantile(before, after, 0.5), quantile(before, after, 0.99))

    def close(self):
        self.daemon.discard()
        self.world.close()


def beside(seconds, rounds):
    requirements.require(requirements.missing_for_namespaces(), requirements.missing_for_guests())
    with tempfile.TemporaryDirectory(prefix="antipode-bench-") as folder:
        stage = Stage(folder)
        try:
            taken = {False: [], True: []}
            asked = 0
            for _ in range(rounds):
                for saturated in (False, True):
                    load = stage.load(saturated)
                    if load:
                        time.sleep(1)  # until its subscribers are there
                    taken[saturated].append(stage.window(seconds))
                    if load:
                        asked += int(load.communicate("\n")[0])
            digests = stage.pair.a.status()["digest"]["mismatches"]
        finally:
            stage.close()
    idle, busy = ([statistics.median(figures) for figures in zip(*taken[saturated])] for saturated in (False, True))
    for name, figures in (("web idle", idle), ("web saturated", busy)):
        print(f"{name:<14} heartbeats: round trip {figures[0] * 1e3:6.2f} ms, loss {figures[1] * 100:5.2f} %   "
              f"output delay: p50 {figures[2] * 1e3:6.2f} ms, p99 {figures[3] * 1e3:6.2f} ms")
    ratios = [b / a for a, b in zip(idle, busy)] if all(idle[i] for i in (0, 2, 3)) and idle[1] else [busy[0] / idle[0], 0, busy[2] / idle[2], busy[3] / idle[3]]
    good = ratios[0] <= RATIO_GOAL and ratios[2] <= RATIO_GOAL and busy[1] <= idle[1] + LOSS_GOAL and digests == 0
    print(f"ratio to idle: round trip {ratios[0]:.2f}, output delay p50 {ratios[2]:.2f}, p99 {ratios[3]:.2f}; {asked} statuses "
          f"answered meanwhile ({asked / seconds / rounds:.0f}/s); goals {RATIO_GOAL} for the medians: {'met' if good else 'MISSED'}")
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    speed = subprocess.run([os.path.join(paths.build(), "bin", "bench_web"), str(given.seconds)], check=False)
    good = beside(given.seconds, given.rounds)
    sys.exit(0 if speed.returncode == 0 and good else 1)


if __name__ == "__main__":
    main()
