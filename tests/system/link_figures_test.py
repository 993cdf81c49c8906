#!/usr/bin/env python3
"""What a site says of its line is what the line is: round trip, jitter, loss, clock offset, bytes, lag, against the emulator's own
settings and counts; and link-test measures a line's rate before it is trusted."""

import json
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import case, guests, paths, process, requirements, wait  # noqa: E402  pylint: disable=wrong-import-position
from lib.world_case import WorldCase  # noqa: E402  pylint: disable=wrong-import-position

requirements.require(requirements.missing_for_namespaces(), requirements.missing_for_guests())
# A busy machine adds to a round trip; the figures are smoothed and come back.
EXTRA_SECONDS = 0.012


class LinkFigures(WorldCase):
    WORLD = {"delay_ms": 20, "seed": 7}

    def becomes(self, site, name, low, high, seconds=40):
        """The link's figure comes to lie in the range."""
        seen = []

        def within():
            value = site.status()["link"][name]
            seen.append(value)
            return value is not None and low <= value <= high

        try:
            wait.until(f"{name} within {low}..{high}", within, seconds, interval=0.1)
        except AssertionError as error:
            raise AssertionError(f"{error}; seen: {seen[-5:]}") from None
        print(f"{name}={seen[-1]:.4f} expected {low:.4f}..{high:.4f}", flush=True)

    def test_figures_are_the_lines(self):
        pair = self.world.pair(guests.udp_echo())
        pair.start()
        client = self.world.client(pair, options=["--window", "4"])
        client.wait_for_acknowledged(10)
        for site in pair.sites.values():
            self.becomes(site, "rtt_seconds", 0.040, 0.040 + EXTRA_SECONDS)
            # Both sites are on one machine: their clocks are one clock, and the line is as long either way.
            self.becomes(site, "clock_offset_seconds", -EXTRA_SECONDS / 2, EXTRA_SECONDS / 2)
            self.becomes(site, "loss_ratio", 0, 0.001)
        self.bytes_agree(pair, client)
        # An entry is not applied before it has come over the line.
        self.world.wan.set("a<->b", delay_ms=100)
        lags = []

        def shows():
            lags.append(pair.a.status()["execution_lag"]["seconds"] or 0)
            return len(lags) >= 20 and max(lags) >= 0.1

        wait.until("the lag is the line's way", shows, 20, interval=0.05)
        print(f"lag_max={max(lags):.3f} on a line of 0.1 s one way", flush=True)
        self.becomes(pair.a, "rtt_seconds", 0.200, 0.200 + 2 * EXTRA_SECONDS)
        self.world.wan.set("a<->b", delay_ms=20, jitter_ms=10)
        self.becomes(pair.a, "jitter_seconds", 0.002, 0.015)
        # Lost on the way there or back: the heartbeats of the peer are what is counted here.
        self.world.wan.set("a<->b", delay_ms=20, jitter_ms=0, loss=0.05)
        self.becomes(pair.a, "loss_ratio", 0.02, 0.09)

    def bytes_agree(self, pair, client):
        """The emulator counts what TCP carries: our frames, and what CURVE and ZeroMQ add to each."""
        def counts():
            link = pair.a.status()["link"]
            ways = self.world.wan.stats()["directions"]
            return [(link["sent_bytes"], ways["a->b"]["stream_bytes"]), (link["received_bytes"], ways["b->a"]["stream_bytes"])]

        before = counts()
        client.wait_for_acknowledged(client.acknowledged() + 200)
        for (ours, line), (ours_then, line_then) in zip(counts(), before):
            ratio = (line - line_then) / (ours - ours_then)
            print(f"frames={ours - ours_then} line={line - line_then} ratio={ratio:.2f}", flush=True)
            self.assertGreater(ratio, 0.9)
            self.assertLess(ratio, 1.8)

    def test_link_test_measures_the_rate(self):
        pair = self.world.pair(guests.udp_echo())
        self.world.wan.set("a<->b", delay_ms=10, rate_mbytes=8)
        started = [process.Process("link-test", [paths.program("antipode-replicator"), "link-test", site.config, "--json", "--seconds", "6"],
                                   os.path.join(pair.folder, f"{site.letter}.log"), namespace=self.world.topology.name(site.letter))
                   for site in pair.sites.values()]
        for each in started:
            self.addCleanup(each.discard)
            self.assertEqual(each.finished(120), 0, each.output())
        figures = json.loads([line for line in started[0].output().splitlines() if line.startswith("{")][-1])
        print(json.dumps(figures), flush=True)
        self.assertGreater(figures["out_bytes_per_second"], 0.75 * 8e6)
        self.assertLess(figures["out_bytes_per_second"], 1.1 * 8e6)


if __name__ == "__main__":
    case.main()
