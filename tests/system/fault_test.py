#!/usr/bin/env python3
"""Rehearsed faults under load: the line cut and degraded, the tiebreaker out of reach, the primary killed. Each ends by itself,
the pair is protected again without an operator, and nothing that the client saw acknowledged is missing."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import case, control, guests, requirements, wait, world  # noqa: E402  pylint: disable=wrong-import-position
from lib.world_case import WorldCase  # noqa: E402  pylint: disable=wrong-import-position

requirements.require(requirements.missing_for_namespaces(), requirements.missing_for_guests())


class Fault(WorldCase):
    @staticmethod
    def inject(site, fault, **parameters):
        return control.call(site.socket, "inject_fault", confirm=site.pair.name, actor="test", fault=fault, **parameters)

    @staticmethod
    def codes(site):
        return [event["code"] for event in site.events()]

    @staticmethod
    def operation(site, number):
        return control.call(site.socket, "operation", operation=number)

    def finish(self, pair, client):
        before = client.acknowledged()
        client.wait_for_acknowledged(before + 20)
        code, _ = client.stop()
        self.assertEqual(code, 0, client.process.output())
        survivor = pair.primary()
        pair.other(survivor).process.stop()
        acknowledged, duplicated = world.assert_nothing_lost(self, survivor, [client])
        print(f"acknowledged={acknowledged} lost=0 duplicated={duplicated}", flush=True)

    def test_the_line_is_cut_and_comes_back(self):
        for letter in ("a", "b"):
            pair, client = self.loaded_pair()
            epoch = pair.a.status()["epoch"]
            site = pair.sites[letter]
            self.inject(site, "link_cut", duration_seconds=6)
            wait.until("one goes on alone", lambda p=pair: p.primary() and p.primary().status()["state"] == "solo", 20)
            self.assertIn("fault_injected", self.codes(site))
            wait.until("the fault ends by itself", lambda s=site: "fault_ended" in self.codes(s), 20)
            pair.wait_until_protected(60)
            self.assertGreater(pair.primary().status()["epoch"], epoch)
            self.finish(pair, client)
            pair.close()

    def test_a_line_that_limps(self):
        pair, client = self.loaded_pair()
        number = self.inject(pair.a, "link_degrade", duration_seconds=120)["operation"]
        self.assertEqual(pair.a.status()["alerts"][-1]["code"], "fault_injected")
        before = client.acknowledged()
        client.wait_for_acknowledged(before + 50)
        wait.until("the line is seen to be bad", lambda: "link_degraded" in self.codes(pair.a), 60)
        alerts = {alert["code"]: alert["since_unix_ms"] for alert in pair.a.status()["alerts"]}
        self.assertGreater(min(alerts["fault_injected"], alerts["link_degraded"]), 0)
        self.assertGreaterEqual(alerts["link_degraded"], alerts["fault_injected"])
        # It delays answers by pulses of 100 ms, and one fault runs at a time.
        with self.assertRaises(control.Refused):
            self.inject(pair.a, "link_cut")
        control.call(pair.a.socket, "cancel", operation=number, actor="test")
        self.assertEqual(self.operation(pair.a, number)["state"], "succeeded")
        self.assertIn("fault_ended", self.codes(pair.a))
        wait.until("the line is seen to be good again", lambda: "link_restored" in self.codes(pair.a), 60)
        self.assertNotIn("link_degraded", [alert["code"] for alert in pair.a.status()["alerts"]])
        pair.wait_until_protected(60)
        self.finish(pair, client)

    def test_the_tiebreaker_is_out_of_reach(self):
        pair, client = self.loaded_pair()
        incarnation = pair.a.status()["incarnation"]
        self.inject(pair.a, "tiebreaker_cut", duration_seconds=3)
        wait.until("it is seen", lambda: not pair.a.status()["tiebreaker"]["reachable"], 10)
        self.assertTrue(pair.b.status()["tiebreaker"]["reachable"])
        before = client.acknowledged()
        client.wait_for_acknowledged(before + 20)
        wait.until("it comes back by itself", lambda: pair.a.status()["tiebreaker"]["reachable"], 20)
        # Nothing else has happened.
        self.assertEqual(pair.a.status()["state"], "primary")
        self.assertEqual(pair.a.status()["incarnation"], incarnation)
        self.finish(pair, client)

    def test_the_primary_is_killed(self):
        pair, client = self.loaded_pair()
        with self.assertRaises(control.Refused):
            self.inject(pair.b, "kill_primary")
        self.inject(pair.a, "kill_primary")
        self.assertEqual(pair.a.process.finished(10), -9)
        pair.b.wait_for_state("solo")
        pair.a.start()  # as systemd does
        pair.wait_until_protected(60)
        self.finish(pair, client)

    def test_refused_where_nobody_could_decide(self):
        pair = self.world.pair(guests.counter())
        pair.start()
        for wrong in ({"fault": "meteor"}, {"fault": "link_cut", "duration_seconds": 0}, {"fault": "link_cut", "duration_seconds": 301}):
            with self.assertRaises(control.Refused):
                self.inject(pair.a, **wrong)
        self.world.tiebreaker.kill()
        wait.until("it is seen", lambda: not pair.a.status()["tiebreaker"]["reachable"], 10)
        for fault in ("link_cut", "link_degrade", "tiebreaker_cut", "kill_primary"):
            with self.assertRaises(control.Refused) as refused:
                self.inject(pair.a, fault)
            self.assertIn("tiebreaker", refused.exception.message)
        self.world.tiebreaker.start()
        wait.until("it is seen", lambda: pair.a.status()["tiebreaker"]["reachable"], 20)
        pair.b.kill()
        pair.a.wait_for_state("solo")
        with self.assertRaises(control.Refused):
            self.inject(pair.a, "link_cut")


if __name__ == "__main__":
    case.main()
