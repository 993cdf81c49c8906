#!/usr/bin/env python3
"""A VM of mode `auto`: it begins in lockstep; a guest that cannot be replayed is demoted to deltas, and says why; kill -9 of either
side in either way of protection loses nothing that a client saw acknowledged; when the guest has become calm it is in lockstep again.
ANTIPODE_FAILOVERS sets how many primaries are killed by deltas (4), ANTIPODE_SEED the moments."""

import filecmp
import json
import os
import random
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import case, control, guests, process, requirements, wait, world  # noqa: E402  pylint: disable=wrong-import-position
from lib.world_case import WorldCase  # noqa: E402  pylint: disable=wrong-import-position

requirements.require(requirements.missing_for_namespaces(), requirements.missing_for_guests())
COUNT = int(os.environ.get("ANTIPODE_FAILOVERS", "4"))
SEED = int(os.environ.get("ANTIPODE_SEED", str(random.SystemRandom().randrange(1 << 32))))


def mode(site):
    return site.status()["auto"] or {}


class AutoMode(WorldCase):
    def restless_pair(self, lockstep_after_s, **options):
        pair = self.world.pair(guests.udp_restless(), digest_interval_ms=200, heartbeat_ms=100,
                               settings={"auto": f"lockstep_after_s = {lockstep_after_s}"}, **options)
        pair.start(seconds=60)
        for site in (pair.a, pair.b):
            self.assertEqual(site.status()["vm"]["mode"], "auto")
        return pair

    def wait_for_deltas(self, pair):
        """Both sites say that it goes by deltas, and why; the backup follows them, and is equal."""
        for site in pair.sites.values():
            wait.until(f"{site.name} goes by deltas", lambda site=site: mode(site).get("by_deltas"), 60)
        pair.wait_until_protected(60)
        backup = pair.other(pair.primary())
        seen = mode(backup)["deltas"]
        wait.until("the backup follows deltas", lambda: mode(backup)["deltas"] > seen + 3, 60)
        return backup

    def calm(self, pair):
        """Tells the guest to read no counter any more."""
        program = ("import socket, sys; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); "
                   "s.sendto(b'calm', (sys.argv[1], 7))")

        def told():
            process.run(["python3", "-c", program, pair.guest_address], namespace=pair.topology.name("client"))
            return "udp_restless: calm" in pair.primary().console()

        wait.until("the guest is calm", told, 60, interval=0.5)

    def finish(self, pair, client, what):
        client.wait_for_acknowledged(client.acknowledged() + 20)
        survivor = pair.primary()
        client.stop()
        pair.other(survivor).process.stop()
        acknowledged, duplicated = world.assert_nothing_lost(self, survivor, [client])
        print(f"{what}: acknowledged={acknowledged} lost=0 duplicated={duplicated}", flush=True)

    @staticmethod
    def lose_and_seed(pair, victim, client):
        """kill -9 of a site; the other goes on alone, and seeds it again."""
        before = client.acknowledged()
        victim.kill()
        pair.other(victim).wait_for_state("solo")
        client.wait_for_acknowledged(before + 20)
        victim.start()
        pair.wait_until_protected(60)

    def test_demoted_killed_and_back_in_lockstep(self):
        pair = self.restless_pair(lockstep_after_s=20)
        client = self.world.client(pair, options=["--window", "4"])
        client.wait_for_acknowledged(20)
        self.wait_for_deltas(pair)
        for site in (pair.a, pair.b):
            self.assertIn("put right", mode(site)["reason"])
            told = [event["text"] for event in site.events() if event["code"] == "mode_changed"]
            self.assertTrue(told and told[-1].startswith("by deltas: "), told)
        self.assertIn("by deltas", pair.a.status()["protection_reason"])
        self.assertGreater(mode(pair.a)["lockstep_after_seconds"], 0)
        self.assertIn("\nantipode_by_deltas 1", control.call(pair.a.socket, "metrics"))

        # The backup is lost in a stretch; the primary goes on alone and seeds it again.
        self.lose_and_seed(pair, pair.b, client)
        self.wait_for_deltas(pair)

        # The primary is lost in a stretch; the backup goes on from the last delta, in the same mode.
        self.lose_and_seed(pair, pair.a, client)
        self.wait_for_deltas(pair)
        self.assertIn("put right", mode(pair.b)["reason"])

        self.calm(pair)
        for site in (pair.a, pair.b):
            wait.until(f"{site.name} is in lockstep", lambda site=site: mode(site).get("by_deltas") is False, 90)
        backup = pair.other(pair.primary())
        checked = backup.status()["digest"]["checked"]
        mismatches = backup.status()["digest"]["mismatches"]
        wait.until("digests are compared again", lambda: backup.status()["digest"]["checked"] > checked + 3, 60)
        self.assertEqual(backup.status()["digest"]["mismatches"], mismatches, "the calm guest is replayed exactly")
        self.assertIn("by events", [event["text"] for event in backup.events() if event["code"] == "mode_changed"][-1])

        # The primary is lost in lockstep.
        self.lose_and_seed(pair, pair.b, client)
        self.assertFalse(mode(pair.a)["by_deltas"])
        self.finish(pair, client, "both sides lost by deltas, the primary in lockstep")

    def test_operators_act_in_a_stretch(self):
        """Switchovers, a pause, a reset and a verify that is refused, while it goes by deltas."""
        pair = self.restless_pair(lockstep_after_s=3600)
        client = self.world.client(pair, options=["--window", "4"])
        client.wait_for_acknowledged(20)
        self.wait_for_deltas(pair)
        for _ in range(2):
            old = pair.primary()
            new = pair.other(old)
            control.call(old.socket, "switchover", confirm=pair.name, actor="test")
            new.wait_for_state("primary")
            old.wait_for_state("backup")
            before = client.acknowledged()
            client.wait_for_acknowledged(before + 20)
            self.wait_for_deltas(pair)
        primary = pair.primary()
        with self.assertRaisesRegex(control.Refused, "by deltas"):
            control.call(primary.socket, "verify", actor="test")
        control.call(primary.socket, "pause", confirm=pair.name, actor="test")
        for site in pair.sites.values():
            wait.until(f"it stands at {site.name}", lambda site=site: site.status()["vm"]["vcpu"] == "paused", 20)
        # Both stand at the same exit, and have done the same to their disks.
        wait.until("the disks are equal", lambda: filecmp.cmp(pair.a.disk, pair.b.disk, shallow=False), 20)
        control.call(primary.socket, "resume", actor="test")
        before = client.acknowledged()
        client.wait_for_acknowledged(before + 20)
        control.call(primary.socket, "snapshot", text="one", actor="test")
        backup = self.wait_for_deltas(pair)
        control.call(backup.socket, "drill_start", confirm=pair.name, actor="test")
        wait.until("the drill's copy of the last delta answers for itself",
                   lambda: (control.call(backup.socket, "drill") or {}).get("state") == "running", 30)
        self.wait_for_deltas(pair)
        control.call(backup.socket, "drill_stop", actor="test")
        self.finish(pair, client, "2 switchovers, a pause and a snapshot by deltas")

    def test_primary_killed_at_random_moments_by_deltas(self):
        print(f"ANTIPODE_SEED={SEED}", flush=True)
        chance = random.Random(SEED)
        for index in range(COUNT):
            pair = self.restless_pair(lockstep_after_s=3600, name=f"vm{index}")
            self.wait_for_deltas(pair)
            self.kill_primary(index, pair, chance.uniform(0, 1.5), chance.choice((1, 4, 16)),
                              lambda _, b=pair.b: self.assertNotIn("EXIT-FAILURE", b.console()))

    def test_a_guest_that_replays_stays_in_lockstep(self):
        guest = guests.udp_echo()
        guest.mode = "auto"
        pair = self.world.pair(guest, digest_interval_ms=100)
        pair.start()
        client = self.world.client(pair, options=["--window", "4"])
        client.wait_for_acknowledged(200)
        for site in (pair.a, pair.b):
            self.assertFalse(mode(site)["by_deltas"])
            self.assertEqual(mode(site)["deltas"], 0)
        pair.a.kill()
        pair.b.wait_for_state("solo")
        before = client.acknowledged()
        client.wait_for_acknowledged(before + 20)
        self.finish(pair, client, "lockstep in mode auto")

    def test_the_two_sites_do_not_say_the_same(self):
        """One of them says lockstep: they tell each other apart, in a line."""
        pair = self.world.pair(guests.udp_restless())
        pair.guest.mode = "lockstep"
        with open(os.path.join(pair.b.config, "vm.json"), "w", encoding="utf-8") as file:
            json.dump(pair.vm_definition(pair.b), file)
        pair.b.start()
        pair.a.start()
        wait.until("one of them ends", lambda: not (pair.a.process.running() and pair.b.process.running()), 30)
        ended = pair.b if not pair.b.process.running() else pair.a
        self.assertIn("do not describe the same VM", ended.process.output())


if __name__ == "__main__":
    case.main()
