#!/usr/bin/env python3
"""What a site says of its line is what the line is: round trip, jitter, loss, clock offset, bytes, lag, against the emulator's own
settings and counts; and link-test measures a line's rate before it is trusted."""

import json
import os
import re
import statistics
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import case, control, guests, netns, paths, process, requirements, wait  # noqa: E402  pylint: disable=wrong-import-position
from lib.world_case import WorldCase  # noqa: E402  pylint: disable=wrong-import-position

requirements.require(requirements.missing_for_namespaces(), requirements.missing_for_guests())
# A busy machine adds to a round trip; the figures are smoothed and come back.
EXTRA_SECONDS = 0.012


class LinkFigures(WorldCase):
    WORLD = {"delay_ms": 20, "seed": 7}

    def becomes(self, site, name, low, high, seconds=40):
        """The link's figure comes to lie in the range."""
        self.comes_to_lie(name, lambda: site.status()["link"][name], low, high, seconds)

    def comes_to_lie(self, name, figure, low, high, seconds=40):
        seen = []

        def within():
            value = figure()
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
        # And not much longer: 0.1 s more for entries that wait for one another, 0.05 s for the backup's next report.
        self.comes_to_lie("lag_median", lambda: self.median_lag(pair.a), 0.1, 0.1 + 0.1 + 0.05 + EXTRA_SECONDS)
        self.becomes(pair.a, "rtt_seconds", 0.200, 0.200 + 2 * EXTRA_SECONDS)
        self.world.wan.set("a<->b", delay_ms=20, jitter_ms=10)
        self.becomes(pair.a, "jitter_seconds", 0.002, 0.015)
        # Lost on the way there or back: the heartbeats of the peer are what is counted here.
        self.world.wan.set("a<->b", delay_ms=20, jitter_ms=0, loss=0.05)
        self.becomes(pair.a, "loss_ratio", 0.02, 0.09)

    def test_one_of_two_heartbeat_paths_dies(self):
        """Each path has figures of its own; while one is left, nobody is suspected."""
        port = 7190
        ends = [f"{netns.WAN_ADDRESS[site]}:{port} {netns.SITE_ADDRESS[site]}:{port}" for site in "ab"]
        self.world.wan.do(f"forward udp second-a<->second-b {' '.join(ends)}")
        self.world.wan.set("second-a<->second-b", delay_ms=35)
        pair = self.world.pair(guests.udp_echo(), settings={
            "heartbeat": f'second_listen = "{{own}}:{port}"\nsecond_peer = "{{wan}}:{port}"'})
        pair.start()
        client = self.world.client(pair)

        def path(site, index, name):
            return lambda: site.status()["link"]["paths"][index][name]

        for site in pair.sites.values():
            self.comes_to_lie("path 0", path(site, 0, "rtt_seconds"), 0.040, 0.040 + EXTRA_SECONDS)
            self.comes_to_lie("path 1", path(site, 1, "rtt_seconds"), 0.070, 0.070 + EXTRA_SECONDS)
        epoch = pair.a.status()["epoch"]
        self.world.wan.cut("second-a<->second-b")
        for site in pair.sites.values():
            wait.until("path 1 is silent", lambda site=site: path(site, 1, "heard")() is False, 10)
            self.assertTrue(path(site, 0, "heard")())
            self.assertTrue(site.status()["link"]["heartbeat_up"])
        client.wait_for_acknowledged(client.acknowledged() + 50)
        self.assertEqual([site.status()["state"] for site in pair.sites.values()], ["primary", "backup"])
        self.assertEqual(pair.a.status()["epoch"], epoch, "somebody took over")
        self.world.wan.heal("second-a<->second-b")
        wait.until("path 1 is heard again", lambda: path(pair.a, 1, "heard")(), 10)

    def median_lag(self, site):
        """Of a second."""
        lags = []
        for _ in range(20):
            lags.append(site.status()["execution_lag"]["seconds"] or 0)
            time.sleep(0.05)  # the time that is looked at
        return statistics.median(lags)

    def test_rates_are_the_emulators(self):
        pair = self.world.pair(guests.udp_echo())
        pair.start()
        client = self.world.client(pair, options=["--window", "8"])
        client.wait_for_acknowledged(20)
        for way, figure in (("a->b", "sent_bytes_per_second"), ("b->a", "received_bytes_per_second")):
            self.comes_to_lie(f"{way} emulator/shown", lambda way=way, figure=figure: self.rate_ratio(pair.a, way, figure), 0.9, 1.8)
        before = pair.a.status()["link"]["sent_bytes"]
        metrics = control.call(pair.a.socket, "metrics")
        after = pair.a.status()["link"]["sent_bytes"]
        shown = float(re.search(r'^antipode_channel_wire_bytes_total\{direction="sent"\} (\S+)$', metrics, re.MULTILINE).group(1))
        # The channel's thread refreshes both at the same moment.
        self.assertLessEqual(before, shown)
        self.assertLessEqual(shown, after)

    def rate_ratio(self, site, way, figure):
        """What the emulator has carried in some seconds, to what the site says of each of them."""
        def carried():
            return time.monotonic(), self.world.wan.stats()["directions"][way]["stream_bytes"]

        begin, bytes_then = carried()
        shown = []
        while len(shown) < 5:
            time.sleep(1)  # the time that is looked at
            shown.append(site.status()["link"][figure])
        end, bytes_now = carried()
        return (bytes_now - bytes_then) / (end - begin) / statistics.mean(shown)

    def test_an_output_does_not_wait_for_other_entries(self):
        """Its batch ends with it: no tick of the guest's timer, which comes every 20 ms, gets in behind it, as would if the
        batch left by its timer. And the answer leaves a round trip after it was made, in the median."""
        folder = self.path("captures")
        os.makedirs(folder)
        pair = self.world.pair(guests.udp_echo(), settings={"channel": f'capture = "{folder}/{{own}}"'})
        self.world.wan.set("a<->b", delay_ms=40)
        pair.start()
        client = self.world.client(pair, options=["--window", "4"])
        client.wait_for_acknowledged(300, seconds=60)
        # The histogram's bound above 0.08 s of round trip.
        self.comes_to_lie("delay_p50_seconds", lambda: pair.a.status()["output"]["delay_p50_seconds"], 0.05, 0.1)
        client.stop()
        pair.a.process.stop()  # what it has captured is in the file then
        capture = os.path.join(folder, netns.SITE_ADDRESS["a"])
        text = process.run([paths.program("antipode-dump"), "--messages", "--no-frames", capture], seconds=60).stdout
        outputs = followed = 0
        for batch in re.split(r"log batch: ", text)[1:]:
            kinds = re.findall(r"^\s+\d+ exit \d+ (\S+)", batch, re.MULTILINE)
            for index in (i for i, kind in enumerate(kinds) if kind == "output"):
                outputs += 1
                followed += "timer-tick" in kinds[index:]
        print(f"outputs={outputs} followed_by_a_tick={followed}", flush=True)
        self.assertGreaterEqual(outputs, 300)
        self.assertLess(followed, 0.25 * outputs)

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
