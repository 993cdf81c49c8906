#!/usr/bin/env python3
"""Redundancy comes back by itself: after a failover the site that was lost is seeded and protects again, while the client
works; whatever dies in the middle of that, whenever. ANTIPODE_SEEDINGS sets how many seeds are cut at random moments (6)."""

import os
import random
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import case, control, requirements, wait, world  # noqa: E402  pylint: disable=wrong-import-position
from lib.world_case import WorldCase  # noqa: E402  pylint: disable=wrong-import-position

requirements.require(requirements.missing_for_namespaces(), requirements.missing_for_guests())
SEED = int(os.environ.get("ANTIPODE_SEED", str(random.SystemRandom().randrange(1 << 32))))
SEEDINGS = int(os.environ.get("ANTIPODE_SEEDINGS", "6"))


class Redundancy(WorldCase):
    def finish(self, pair, client):
        """No digest differs, the client was answered, and the disk of whoever runs the VM has all of it."""
        before = client.acknowledged()
        client.wait_for_acknowledged(before + 20)
        for site in (pair.a, pair.b):
            if site.process.running():
                self.assertEqual(site.status()["digest"]["mismatches"], 0)
        client.stop()
        survivor = pair.primary()
        other = pair.other(survivor)
        if other.process.running():
            other.process.stop()
        return world.assert_nothing_lost(self, survivor, [client])

    @staticmethod
    def seed_figures(site):
        """Of the last seed that the site sent: pause_ms, disk_sent_bytes, disk_equal_bytes."""
        texts = [event["text"] for event in control.call(site.socket, "events", limit=256)["events"]
                 if event["code"] == "seed_finished" and "pause_ms=" in event["text"]]
        return {name: float(value) for name, value in (word.split("=") for word in texts[-1].split() if "=" in word)}

    def test_there_and_back_and_there(self):
        """Each site is lost in turn; what comes back is seeded under load and is able to take over."""
        pair, client = self.loaded_pair()
        for _ in range(3):
            old = pair.primary()
            new = pair.other(old)
            old.kill()
            new.wait_for_state("solo")
            old.start()
            pair.wait_until_protected(60)
            self.assertIs(pair.primary(), new)
            figures = self.seed_figures(new)
            print(f"seeded {old.name}: {figures}", flush=True)
            # What came back has nearly all of the disk: only what was written since crosses the line.
            self.assertLess(figures["disk_sent_bytes"], figures["disk_equal_bytes"])
        acknowledged, duplicated = self.finish(pair, client)
        print(f"3 losses and seeds: acknowledged={acknowledged} lost=0 duplicated={duplicated}")

    def test_killed_in_the_middle_of_a_seed(self):
        """kill -9 of either side while the copy is on its way: it begins anew, and protection comes."""
        print(f"ANTIPODE_SEED={SEED}", flush=True)
        chance = random.Random(SEED)
        self.world.wan.set("a<->b", rate_mbytes=8)  # so that a copy takes a while
        pair, client = self.loaded_pair()
        for index in range(SEEDINGS):
            primary = pair.primary()
            backup = pair.other(primary)
            backup.kill()
            primary.wait_for_state("solo")
            backup.start()
            wait.until("the copy begins", lambda b=backup: b.status()["state"] == "joining", 30)
            moment = chance.uniform(0, 1.0)
            time.sleep(moment)  # the random moment itself
            states = (primary.status()["state"], backup.status()["state"])
            victim = (backup, primary)[index % 2]
            victim.kill()
            if victim is primary and states[0] != "primary":
                # The copy is not complete: nobody else has the VM. It boots again where it ran.
                client.stop()
                victim.start()
                wait.until("the VM runs again", pair.primary, 60)
                pair.wait_until_protected(60)
                survivor = pair.primary()
                pair.other(survivor).process.stop()
                world.assert_nothing_lost(self, survivor, [client])
                pair.close()
                print(f"seed {index}: the primary killed after {moment * 1000:.0f} ms in {states}: booted again, lost=0", flush=True)
                pair, client = self.loaded_pair(name=f"vm{index}")
                continue
            wait.until("the VM goes on", pair.primary, 30)
            victim.start()
            pair.wait_until_protected(60)
            print(f"seed {index}: {victim.name} killed after {moment * 1000:.0f} ms in {states}: protected again", flush=True)
        acknowledged, duplicated = self.finish(pair, client)
        print(f"{SEEDINGS} seeds cut: acknowledged={acknowledged} lost=0 duplicated={duplicated}")

    def test_line_cut_in_the_middle_of_a_seed(self):
        self.world.wan.set("a<->b", rate_mbytes=8)
        pair, client = self.loaded_pair()
        pair.b.kill()
        pair.a.wait_for_state("solo")
        pair.b.start()
        pair.b.wait_for_state("joining")
        self.world.wan.cut("a<->b")
        pair.a.wait_for_state("solo", "asking")
        before = client.acknowledged()
        client.wait_for_acknowledged(before + 20)
        self.world.wan.heal("a<->b")
        pair.wait_until_protected(60)
        self.finish(pair, client)

    def test_the_loser_of_a_split_comes_back(self):
        pair, client = self.loaded_pair()
        self.world.wan.cut("a<->b")
        survivor = wait.until("one site goes on", lambda: next(
            (site for site in (pair.a, pair.b) if site.process.running() and site.status()["state"] == "solo"), None), 30)
        loser = pair.other(survivor)
        wait.until("the other halts", lambda: not loser.process.running() or loser.status()["state"] == "halted", 30)
        before = client.acknowledged()
        client.wait_for_acknowledged(before + 20)
        self.world.wan.heal("a<->b")
        if not loser.process.running():
            loser.start()  # systemd would: it retired
        pair.wait_until_protected(60)
        self.assertIs(pair.primary(), survivor)
        self.finish(pair, client)


if __name__ == "__main__":
    case.main()
