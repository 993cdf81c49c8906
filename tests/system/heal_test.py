#!/usr/bin/env python3
"""A guest that reads the time-stamp counter or random numbers cannot be replayed exactly: it stays protected all the same,
because the backup is made equal again whenever it differs, and both sites say so."""

import glob
import json
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import case, control, guests, requirements, wait  # noqa: E402  pylint: disable=wrong-import-position
from lib.world_case import WorldCase  # noqa: E402  pylint: disable=wrong-import-position

requirements.require(requirements.missing_for_namespaces(), requirements.missing_for_guests())
HEALS = 5


class Heal(WorldCase):
    def heals(self, site):
        events = site.events()
        return sum(1 for event in events if event["code"] == "digest_healed")

    def check(self, arguments, name):
        pair = self.world.pair(guests.diverge(arguments), name=name, digest_interval_ms=200)
        pair.start()
        incarnation = pair.b.status()["incarnation"]
        for site in (pair.a, pair.b):
            wait.until(f"{HEALS} heals at {site.name}", lambda site=site: self.heals(site) >= HEALS, 60)
        status = pair.b.status()
        self.assertEqual(status["incarnation"], incarnation, "the backup was seeded anew, not healed")
        self.assertGreater(status["digest"]["mismatches"], 0)
        self.assertGreater(status["digest"]["healed_pages"], 0)
        self.assertGreater(pair.a.status()["digest"]["healed_pages"], 0)
        reports = glob.glob(os.path.join(pair.b.state, "divergence", "*.json"))
        report = wait.until("a report", lambda: self.read(reports[0]) if reports else None, 5)
        for key in ("what_differs", "backup", "primary", "first_pages"):
            self.assertIn(key, report)
        self.assertTrue(report["primary"]["exits"])
        pair.wait_until_protected(20)
        last = pair.a.wait_for_console("units=")
        pair.a.kill()
        pair.b.wait_for_state("solo")
        length = len(pair.b.console())
        wait.until("the survivor goes on", lambda: len(pair.b.console()) > length, 20)
        print(f"{name}: healed_pages={status['digest']['healed_pages']} mismatches={status['digest']['mismatches']} "
              f"last line of the primary: {last}", flush=True)
        pair.close()

    @staticmethod
    def read(path):
        try:
            with open(path, encoding="utf-8") as file:
                return json.load(file)
        except (OSError, ValueError):
            return None

    def test_time_stamp_counter(self):
        self.check("antipode.every=400", "rdtsc")

    def test_random_numbers_decide(self):
        self.check("antipode.every=400 antipode.rdrand=1 antipode.branch=1", "rdrand")

    def test_primary_lost_in_the_middle_of_a_heal(self):
        self.world.wan.set("a<->b", delay_ms=40, rate_mbytes=125)
        for index in range(3):
            pair = self.world.pair(guests.diverge("antipode.every=400 antipode.branch=1"), name=f"lost{index}",
                                   digest_interval_ms=200)
            pair.start()
            wait.until("a heal", lambda p=pair: self.heals(p.b) >= 1, 60)
            wait.until("the next heal is under way", lambda p=pair: p.b.status()["protection"] == "degraded", 60, interval=0.002)
            pair.a.kill()
            pair.b.wait_for_state("solo")
            length = len(pair.b.console())
            wait.until("the survivor goes on", lambda p=pair, n=length: len(p.b.console()) > n, 20)
            # Either the heal was there in time, or the site says what it goes on from.
            told = [event["text"] for event in pair.b.events() if "differs from the lost primary's" in event["text"]]
            print(f"lost in the middle of heal {index}: heals={self.heals(pair.b)} told={len(told)}", flush=True)
            # The new backup differs from its first moment on, and is healed as the first one was.
            pair.a.start()
            pair.wait_until_protected(60)
            wait.until("a heal of the new backup", lambda p=pair: self.heals(p.a) >= 1, 60)
            pair.close()

    def test_a_heal_ends_a_drill(self):
        pair = self.world.pair(guests.diverge("antipode.every=400"), name="drill", digest_interval_ms=500)
        pair.start()

        def begun():
            try:
                return control.call(pair.b.socket, "drill_start", confirm=pair.name, actor="test", duration_seconds=60)
            except control.Refused:  # it is being healed right now
                return None

        for _ in range(3):
            wait.until("a drill begins", begun, 60)
            drill = wait.until("the drill is over", lambda: (lambda d: d if d["state"] in ("failed", "ended") else None)(
                control.call(pair.b.socket, "drill")), 60)
            self.assertEqual(drill["state"], "failed")
            self.assertIn("put right", drill["text"])
        wait.until("the heals go on", lambda: self.heals(pair.b) >= 3, 60)
        self.assertTrue(pair.b.process.running())


if __name__ == "__main__":
    case.main()
