#!/usr/bin/env python3
"""kill -9 of the primary's replicator at random moments: the VM goes on at the other site, and nothing that a client
saw acknowledged is missing from the survivor's disk. ANTIPODE_FAILOVERS sets how many (20), ANTIPODE_SEED the moments."""

import os
import random
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import case, guests, requirements, wait, world  # noqa: E402  pylint: disable=wrong-import-position
from lib.world_case import WorldCase  # noqa: E402  pylint: disable=wrong-import-position

requirements.require(requirements.missing_for_namespaces(), requirements.missing_for_guests())
COUNT = int(os.environ.get("ANTIPODE_FAILOVERS", "20"))
SEED = int(os.environ.get("ANTIPODE_SEED", str(random.SystemRandom().randrange(1 << 32))))


class KillMinusNine(WorldCase):
    def fail_over(self, guest, index, moment, window):
        """One failover of a fresh pair; how long the client waited, in ms."""
        pair = self.world.pair(guest, name=f"vm{index}")
        pair.start()
        return self.kill_primary(index, pair, moment, window,
                                 lambda _: self.assertEqual(pair.b.status()["digest"]["mismatches"], 0))

    def test_bare_metal_at_random_moments(self):
        print(f"ANTIPODE_SEED={SEED}", flush=True)
        chance = random.Random(SEED)
        silences = [self.fail_over(guests.udp_echo(), index, chance.uniform(0, 1.5), chance.choice((1, 4, 16)))
                    for index in range(COUNT)]
        print(f"{COUNT} failovers: longest silence median {sorted(silences)[COUNT // 2]} ms, worst {max(silences)} ms")

    def test_console_goes_on(self):
        """A guest that only counts: what the primary's console showed is on the survivor's, and it goes on."""
        # The thread sanitizer makes a delta of many pages cost a hundred times its price: few here.
        for guest in (guests.counter(), guests.disk_writer(), guests.compute("antipode.every=100 antipode.pages=24")):
            pair = self.world.pair(guest, name=f"console-{guest.name.replace('_', '-')}")
            pair.start()
            last = pair.a.wait_for_console(guest.ready)
            pair.a.kill()
            pair.b.wait_for_state("solo")
            pair.b.wait_for_console(last)
            length = len(pair.b.console())
            wait.until(f"the console of {guest.name} goes on", lambda: len(pair.b.console()) > length, 20)
            self.assertEqual(pair.b.status()["digest"]["mismatches"], 0)
            pair.close()

    def test_backup_dies(self):
        """The primary wins, goes on alone, and releases what it held."""
        pair = self.world.pair(guests.udp_echo())
        pair.start()
        client = self.world.client(pair)
        client.wait_for_acknowledged(20)
        pair.b.kill()
        before = client.acknowledged()
        pair.a.wait_for_state("solo")
        client.wait_for_acknowledged(before + 20)
        client.stop()
        world.assert_nothing_lost(self, pair.a, [client])


if __name__ == "__main__":
    case.main()
