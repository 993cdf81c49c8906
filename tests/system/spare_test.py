#!/usr/bin/env python3
"""A pair with a third site: what is lost for good is replaced by the spare, without an operator, and twice if it must be; who was
replaced comes back as a spare; a backup is moved while the VM runs protected."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import case, requirements, spares, wait, world  # noqa: E402  pylint: disable=wrong-import-position

requirements.require(requirements.missing_for_namespaces(), requirements.missing_for_guests())


class Spare(case.Case):
    def setUp(self):
        super().setUp()
        self.world = self.owned(spares.SpareWorld(self.folder))

    def ends(self, what, site, client):
        client.stop()
        acknowledged, duplicated = world.assert_nothing_lost(self, site, [client])
        print(f"{what}: acknowledged={acknowledged} lost=0 duplicated={duplicated}", flush=True)

    def goes_on(self, client):
        before = client.acknowledged()
        client.wait_for_acknowledged(before + 20)

    def test_the_primary_is_lost_for_good_and_then_the_next_one(self):
        pair, client = self.world.started()
        pair.a.kill()
        pair.wait_for_roles(pair.b, pair.c)
        self.assertEqual(pair.b.status()["peer_site"], "site-c")
        self.assertEqual(pair.b.status()["spare_site"], "site-a")
        self.goes_on(client)
        pair.b.kill()
        pair.c.wait_for_state("solo", seconds=30)
        self.goes_on(client)
        self.ends("two of three sites lost", pair.c, client)

    def test_who_was_replaced_comes_back_as_a_spare_and_serves_again(self):
        pair, client = self.world.started()
        pair.b.kill()
        pair.wait_for_roles(pair.a, pair.c)
        pair.b.start()
        # It follows the record to the VM's site, which is turned to another one.
        wait.until("site-b knows whose the VM is", lambda: pair.b.status()["epoch"] == pair.a.status()["epoch"], 30)
        self.assertEqual(pair.b.status()["role"], "none")
        self.goes_on(client)
        pair.a.kill()
        pair.wait_for_roles(pair.c, pair.b)
        self.goes_on(client)
        self.ends("replaced and back", pair.c, client)

    def test_the_backup_is_moved_while_the_vm_runs(self):
        pair, client = self.world.started()
        preflight = pair.act(pair.a, "move_backup", to="site-c", check=True)
        self.assertTrue(preflight["allowed"])
        self.assertIn("would lose the VM", preflight["consequence"])
        for to in ("site-b", "site-a", "site-x"):
            with self.assertRaises(Exception) as refused:
                pair.act(pair.a, "move_backup", to=to)
            self.assertIn("to: ", str(refused.exception))
        pair.act(pair.a, "move_backup", to="site-c")
        pair.wait_for_roles(pair.a, pair.c)
        self.goes_on(client)
        pair.a.kill()
        pair.c.wait_for_state("solo", "pairing", "primary", seconds=30)
        pair.wait_for_roles(pair.c, pair.b)
        self.goes_on(client)
        self.ends("moved, and the primary lost", pair.c, client)

    def test_who_gave_the_backup_away_takes_it_again(self):
        """The process that was turned away from has not been started anew: it is heard again."""
        pair, client = self.world.started()
        pair.act(pair.a, "move_backup", to="site-c")
        pair.wait_for_roles(pair.a, pair.c)
        pair.c.kill()
        pair.wait_for_roles(pair.a, pair.b)
        self.goes_on(client)
        pair.a.kill()
        pair.b.wait_for_state("solo", seconds=30)
        self.goes_on(client)
        self.ends("moved there and back", pair.b, client)


if __name__ == "__main__":
    case.main()
