#!/usr/bin/env python3
"""The line between the sites is cut while both live: exactly one goes on, whichever way and whenever it is cut. With the
tiebreaker away as well, nobody does."""

import os
import random
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import case, guests, requirements, violations, wait, world  # noqa: E402  pylint: disable=wrong-import-position
from lib.world_case import WorldCase  # noqa: E402  pylint: disable=wrong-import-position

requirements.require(requirements.missing_for_namespaces(), requirements.missing_for_guests())
SEED = int(os.environ.get("ANTIPODE_SEED", str(random.SystemRandom().randrange(1 << 32))))
ROUNDS = int(os.environ.get("ANTIPODE_SPLITS", "6"))
OBSERVED_SECONDS = 3  # how long it is watched that nothing happens


class Split(WorldCase):
    def pair_with_client(self, **options):
        pair = self.world.pair(guests.udp_echo(), **options)
        pair.start()
        client = self.world.client(pair)
        client.wait_for_acknowledged(10)
        return pair, client

    def decided(self, pair):
        """(survivor, loser) once one is solo and the other has stopped its VM: halted, ended, or asking to be a backup."""

        def outcome():
            states = {}
            for site in (pair.a, pair.b):
                states[site.letter] = site.status()["state"] if site.process.running() else "ended"
            with violations.kept():
                self.assertNotEqual(sorted(states.values()), ["solo", "solo"], f"both sites went on, seed {SEED}")
            for winner, loser in ((pair.a, pair.b), (pair.b, pair.a)):
                if states[winner.letter] == "solo" and states[loser.letter] in ("halted", "ended", "joining"):
                    return winner, loser
            return None

        return wait.until("one site goes on and the other halts", outcome, 30)

    def assert_told(self, site, *codes):
        """These events are in the site's journal, in this order."""
        told = [event["code"] for event in site.events()]
        at = 0
        for code in codes:
            self.assertIn(code, told[at:], f"{site.name}: {told}")
            at = told.index(code, at) + 1

    def test_exactly_one_goes_on(self):
        print(f"ANTIPODE_SEED={SEED}", flush=True)
        chance = random.Random(SEED)
        for index in range(ROUNDS):
            who = ("a<->b", "a->b", "b->a")[index % 3]
            pair, client = self.pair_with_client(name=f"vm{index}")
            # Different ways to the tiebreaker, so that now one and now the other asks first.
            self.world.wan.set("a<->t", delay_ms=chance.choice((0, 5, 40)))
            self.world.wan.set("b<->t", delay_ms=chance.choice((0, 5, 40)))
            time.sleep(chance.uniform(0, 0.3))  # the random moment itself
            self.world.wan.cut(who)
            survivor, loser = self.decided(pair)
            before = client.acknowledged()
            client.wait_for_acknowledged(before + 20)
            self.world.wan.heal(who)
            self.assert_told(survivor, "acquire_asked", "acquire_won")
            if loser.process.running() and loser.status()["state"] == "halted":
                # It may have learned of the other's grant before it had missed anybody.
                asked = "acquire_asked" in [event["code"] for event in loser.events()]
                self.assert_told(loser, *(("acquire_asked", "acquire_denied") if asked else ()), "disk_fenced", "halted")
                self.assertEqual({disk["state"] for disk in loser.status()["disks"]}, {"fenced"})
            # Healing wakes nobody up again.
            after = client.acknowledged()
            client.wait_for_acknowledged(after + 20)
            if loser.process.running():
                with violations.kept():
                    self.assertNotIn(loser.status()["state"], ("primary", "solo"))
            client.stop()
            acknowledged, duplicated = world.assert_nothing_lost(self, survivor, [client])
            print(f"split {index}: cut {who}, {survivor.name} goes on, acknowledged={acknowledged} lost=0 duplicated={duplicated}",
                  flush=True)
            pair.close()

    def assert_waits(self, site):
        state = site.status()["state"]
        with violations.kept():
            self.assertNotIn(state, ("going_live", "solo", "pairing"), f"{site.name} goes on, and nobody can have let it")
        self.assertIn(state, ("asking", "waiting"))

    def test_tiebreaker_away_nobody_goes_live(self):
        pair, client = self.pair_with_client()
        self.world.tiebreaker.kill()
        pair.a.kill()
        before = client.acknowledged()
        pair.b.wait_for_state("asking", "waiting")
        end = time.monotonic() + OBSERVED_SECONDS
        while time.monotonic() < end:
            self.assert_waits(pair.b)
            time.sleep(0.05)
        self.assertEqual(client.acknowledged(), before)
        # It comes back with what it had recorded: now the backup may.
        self.world.tiebreaker.start()
        pair.b.wait_for_state("solo")
        client.wait_for_acknowledged(before + 20, seconds=60)
        client.stop()
        world.assert_nothing_lost(self, pair.b, [client])

    def test_tiebreaker_away_and_line_cut(self):
        pair, client = self.pair_with_client()
        self.world.wan.cut("a<->t")
        self.world.wan.cut("b<->t")
        self.world.wan.cut("a<->b")
        pair.a.wait_for_state("asking", "waiting")
        pair.b.wait_for_state("asking", "waiting")
        before = client.acknowledged()
        end = time.monotonic() + OBSERVED_SECONDS
        while time.monotonic() < end:
            for site in (pair.a, pair.b):
                self.assert_waits(site)
            time.sleep(0.05)
        self.assertEqual(client.acknowledged(), before)
        self.world.wan.heal("a<->t")
        survivor, _ = self.decided_after_heal(pair)
        client.wait_for_acknowledged(before + 20, seconds=60)
        client.stop()
        world.assert_nothing_lost(self, survivor, [client])

    def decided_after_heal(self, pair):
        pair.a.wait_for_state("solo", seconds=60)
        self.world.wan.heal("b<->t")
        return self.decided(pair)

    def test_tiebreaker_away_and_both_healthy(self):
        """Nothing happens, and the status warns."""
        pair, client = self.pair_with_client()
        self.world.tiebreaker.kill()
        wait.until("the primary says that its tiebreaker is away", lambda: not pair.a.status()["tiebreaker"]["reachable"], 30)
        before = client.acknowledged()
        client.wait_for_acknowledged(before + 50)
        self.assertEqual(pair.a.status()["state"], "primary")
        self.assertEqual(pair.b.status()["state"], "backup")
        self.assertTrue(any("tiebreaker" in alert["text"].lower() or alert["code"].startswith("tiebreaker")
                            for alert in pair.a.status()["alerts"]), pair.a.status()["alerts"])
        client.stop()


if __name__ == "__main__":
    case.main()
