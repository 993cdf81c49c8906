#!/usr/bin/env python3
"""Planned changes of roles under load: the VM moves to the other site and back without a copy, and nothing that the client
saw acknowledged is missing. ANTIPODE_SWITCHOVERS sets how many (10), `switchover_test.py --count 50` as well."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import case, control, guests, requirements, wait, world  # noqa: E402  pylint: disable=wrong-import-position
from lib.world_case import WorldCase  # noqa: E402  pylint: disable=wrong-import-position

requirements.require(requirements.missing_for_namespaces(), requirements.missing_for_guests())
COUNT = int(os.environ.get("ANTIPODE_SWITCHOVERS", "10"))


class Switchover(WorldCase):
    DELAY_MS = 5
    WORLD = {"delay_ms": DELAY_MS}

    def switch(self, pair):
        """The VM moves; the site it came from."""
        pair.wait_until_protected(60)
        old = pair.primary()
        new = pair.other(old)
        epoch = old.status()["epoch"]
        control.call(old.socket, "switchover", confirm=pair.name, actor="test")
        new.wait_for_state("primary")
        old.wait_for_state("backup")
        self.assertGreater(new.status()["epoch"], epoch)
        pair.wait_until_protected()
        return old

    def back_and_forth(self, guest, count, **client_options):
        pair = self.world.pair(guest, heartbeat_ms=100)
        pair.start()
        client = self.world.client(pair, **client_options)
        client.wait_for_acknowledged(20)
        incarnations = {site.name: site.status()["incarnation"] for site in (pair.a, pair.b)}
        pauses = []
        for _ in range(count):
            pauses.append(self.last_pause(self.switch(pair)))
            before = client.acknowledged()
            client.wait_for_acknowledged(before + 20)
        for site in (pair.a, pair.b):
            self.assertEqual(site.status()["incarnation"], incarnations[site.name], "a process was replaced")
            self.assertEqual(site.status()["digest"]["mismatches"], 0)
        code, summary = client.stop()
        self.assertEqual(code, 0, client.process.output())
        survivor = pair.primary()
        pair.other(survivor).process.stop()
        acknowledged, duplicated = world.assert_nothing_lost(self, survivor, [client])
        print(f"{count} switchovers of {guest.name}: acknowledged={acknowledged} lost=0 duplicated={duplicated} "
              f"pause_ms median={sorted(pauses)[count // 2]:.1f} worst={max(pauses):.1f} rtt_ms={2 * self.DELAY_MS} "
              f"silence_ms={summary['longest_silence_ms']}", flush=True)

    @staticmethod
    def last_pause(site):
        """How long the guest stood when it last left this site, in ms."""

        epoch = site.status()["epoch"]

        def told():
            newest = control.call(site.socket, "events", limit=1)["newest"]
            for event in control.call(site.socket, "events", after=max(0, newest - 100))["events"]:
                if event["code"] == "switchover_finished" and event["text"].startswith(f"epoch {epoch} pause_ms="):
                    return float(event["text"].split("pause_ms=")[1].split()[0])
            return None

        return wait.until(f"{site.name} has measured the switchover", told)

    def test_back_and_forth(self):
        self.back_and_forth(guests.udp_echo(), COUNT, options=["--window", "4"])

    def test_linux_keeps_its_connection(self):
        guest = guests.linux()
        if guest is None:
            self.skipTest("the Linux guest is not built (tests/guests/linux/build)")
        self.back_and_forth(guest, max(2, COUNT // 3), options=["--interval-ms", "5"])

    def test_asked_for_at_the_backup(self):
        """The primary decides, whichever site's operator asks."""
        pair = self.world.pair(guests.udp_echo(), heartbeat_ms=100)
        pair.start()
        client = self.world.client(pair, options=["--window", "4"])
        client.wait_for_acknowledged(20)
        for site in (pair.b, pair.a, pair.b):
            pair.wait_until_protected(60)
            self.assertEqual(site.status()["state"], "backup")
            number = control.call(site.socket, "switchover", confirm=pair.name, actor="ann")["operation"]
            done = wait.until("it has ended", lambda s=site, n=number: (lambda o: o if o["state"] != "running" else None)(
                control.call(s.socket, "operation", operation=n)), 30)
            self.assertEqual(done["state"], "succeeded", done)
            self.assertEqual(site.status()["state"], "primary")
            texts = [event["text"] for event in pair.other(site).events() if event["code"] == "switchover_started"]
            self.assertIn(f"ann at {site.name}", texts[-1])
            before = client.acknowledged()
            client.wait_for_acknowledged(before + 20)
        # What the primary refuses is told to the backup's operator.
        pair.wait_until_protected(60)
        self.world.tiebreaker.kill()
        for site in (pair.a, pair.b):
            wait.until("it is seen", lambda s=site: not s.status()["tiebreaker"]["reachable"], 10)
        number = control.call(pair.a.socket, "switchover", confirm=pair.name, actor="ann")["operation"]
        done = wait.until("it has ended", lambda: (lambda o: o if o["state"] != "running" else None)(
            control.call(pair.a.socket, "operation", operation=number)), 30)
        self.assertEqual(done["state"], "failed")
        self.assertIn("tiebreaker", done["text"])
        client.stop()
        pair.a.process.stop()
        world.assert_nothing_lost(self, pair.b, [client])

    def test_refused_without_a_backup(self):
        pair = self.world.pair(guests.counter())
        pair.start()
        pair.b.kill()
        pair.a.wait_for_state("solo")
        with self.assertRaises(control.Refused):
            control.call(pair.a.socket, "switchover", confirm=pair.name)
        with self.assertRaises(control.Refused) as refused:
            control.call(pair.a.socket, "switchover", confirm="another")
        self.assertIn(pair.name, refused.exception.message)

    def test_a_backup_that_differs_does_not_take_over(self):
        """Nothing has compared the two before the hand-over does: the VM stays where the world has seen it."""
        pair = self.world.pair(guests.diverge("antipode.every=100"), digest_interval_ms=60_000, heartbeat_ms=100)
        pair.start()
        pair.a.wait_for_console("units=")
        primary = pair.a
        for _ in range(5):
            incarnation = primary.status()["incarnation"]
            control.call(primary.socket, "switchover", confirm=pair.name, actor="test")
            backup = pair.other(primary)
            if wait.until("the backup refuses or takes over", lambda: self.refused_or_taken(primary, backup), 20) == "refused":
                break
            # Equal after all, which only a delta makes them: the vCPU had to wait for a processor, and was kicked.
            self.assertNotIn("\nantipode_deltas_total 0\n", control.call(primary.socket, "metrics"))
            primary = backup
            primary.wait_for_state("primary")
            pair.wait_until_protected()
        else:
            self.fail("five switchovers, and each time a delta had made the two equal")
        primary.wait_for_state("solo", "pairing", "primary", seconds=30)
        self.assertEqual(primary.status()["incarnation"], incarnation)
        length = len(primary.console())
        wait.until("the VM goes on where it was", lambda: len(primary.console()) > length, 20)

    @staticmethod
    def refused_or_taken(primary, backup):
        for event in backup.events():
            if "does not take over" in event["text"]:
                return "refused" if event["code"] == "digest_mismatch" else event["code"]
        return "taken" if primary.status()["state"] == "backup" else None

    def test_refused_while_the_backup_is_healed(self):
        pair = self.world.pair(guests.diverge("antipode.every=400"), digest_interval_ms=200, heartbeat_ms=100)
        pair.start()

        def refused():
            if pair.a.status()["protection"] != "degraded":
                return None
            try:
                return control.call(pair.a.socket, "switchover", confirm=pair.name, check=True) and None
            except control.Refused as why:
                return why.message

        self.assertIn("put right", wait.until("a switchover is refused during a heal", refused, 60, interval=0.002))

    def test_either_site_dies_in_the_middle(self):
        """kill -9 of the site that hands over or of the one that takes, right after the request."""
        for index, victim in enumerate(("old", "new", "old", "new")):
            pair = self.world.pair(guests.udp_echo(), name=f"vm{index}")
            pair.start()
            client = self.world.client(pair)
            client.wait_for_acknowledged(20)
            control.call(pair.a.socket, "switchover", confirm=pair.name)
            killed, survivor = (pair.a, pair.b) if victim == "old" else (pair.b, pair.a)
            if index >= 2:  # a little later: the hand-over is on its way, or done
                wait.until("the hand-over has begun", lambda: pair.a.status()["state"] != "primary", 5, interval=0.001)
            killed.kill()
            survivor.wait_for_state("solo")
            before = client.acknowledged()
            client.wait_for_acknowledged(before + 20)
            client.stop()
            world.assert_nothing_lost(self, survivor, [client])
            pair.close()


if __name__ == "__main__":
    if "--count" in sys.argv:
        at = sys.argv.index("--count")
        COUNT = int(sys.argv[at + 1])
        del sys.argv[at:at + 2]
    case.main()
