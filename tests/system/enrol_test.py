#!/usr/bin/env python3
"""The tiebreaker is restored from a backup: nobody follows it, the VM goes on, and an operator enrols the pair again at the site
that runs the VM. Then it protects as before: a failover comes, and nothing acknowledged is missing."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import case, control, guests, requirements, wait, world  # noqa: E402  pylint: disable=wrong-import-position

requirements.require(requirements.missing_for_namespaces(), requirements.missing_for_guests())


class Enrol(case.Case):
    def test_a_restored_tiebreaker_is_followed_after_enrolling_again(self):
        self.world = self.owned(world.World(self.folder, delay_ms=5))
        pair = self.world.pair(guests.udp_echo(), heartbeat_ms=60)
        pair.start()
        client = self.world.client(pair, options=["--window", "4"])
        client.wait_for_acknowledged(20)
        # It is refused while the tiebreaker knows the pair, and without the name.
        with self.assertRaises(control.Refused) as refused:
            control.call(pair.a.socket, "enrol", confirm=pair.name, actor="test")
        self.assertIn("knows this pair", refused.exception.message)
        tiebreaker = self.world.tiebreaker
        backup = self.path("records.backup")
        tiebreaker.admin("backup", backup)
        tiebreaker.kill()
        tiebreaker.admin("restore", backup)
        tiebreaker.start()
        wait.until("both refuse its store", lambda: all(any("store" in alert["text"] for alert in site.status()["alerts"])
                                                        for site in (pair.a, pair.b)), 30)
        self.assertEqual(pair.a.status()["state"], "primary")
        with self.assertRaises(control.Refused):
            control.call(pair.a.socket, "enrol", confirm="another", actor="test")
        epoch = pair.a.status()["epoch"]
        control.call(pair.a.socket, "enrol", confirm=pair.name, actor="test")
        wait.until("it is followed again", lambda: all(site.status()["epoch"] > epoch and not site.status()["alerts"]
                                                       for site in (pair.a, pair.b)), 30)
        pair.wait_until_protected(60)
        before = client.acknowledged()
        client.wait_for_acknowledged(before + 20)
        pair.a.kill()
        pair.b.wait_for_state("solo")
        before = client.acknowledged()
        client.wait_for_acknowledged(before + 20)
        client.stop()
        acknowledged, duplicated = world.assert_nothing_lost(self, pair.b, [client])
        print(f"enrolled again, then a failover: acknowledged={acknowledged} lost=0 duplicated={duplicated}", flush=True)


if __name__ == "__main__":
    case.main()
