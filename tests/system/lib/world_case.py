"""A test case with a World of its own for each test, and the pairs that most tests begin with."""

import time

from . import case, guests, world


class WorldCase(case.Case):
    WORLD = {}  # options of its World

    def setUp(self):
        super().setUp()
        self.world = self.owned(world.World(self.folder, **{"delay_ms": 5, **self.WORLD}))

    def protected_pair(self, guest, seconds=30, **options):
        """A pair in step whose guest has begun to work."""
        pair = self.world.pair(guest, **{"digest_interval_ms": 100, "heartbeat_ms": 100, **options})
        pair.start(seconds=seconds)
        pair.a.wait_for_console(guest.ready)
        return pair

    def loaded_pair(self, **options):
        """A pair in step, and a client that keeps it busy."""
        pair = self.world.pair(guests.udp_echo(), **{"heartbeat_ms": 60, **options})
        pair.start()
        client = self.world.client(pair, options=["--window", "4"])
        client.wait_for_acknowledged(20)
        return pair, client

    def kill_primary(self, index, pair, moment, window, check):
        """kill -9 of the primary of a fresh pair, `moment` seconds after a client was first answered. check(summary): what else
        must hold before the survivor ends. How long the client waited, in ms."""
        client = self.world.client(pair, options=["--window", str(window)])
        client.wait_for_acknowledged(1)
        time.sleep(moment)  # the random moment itself
        pair.a.kill()
        before = client.acknowledged()
        pair.b.wait_for_state("solo")
        client.wait_for_acknowledged(before + 20)
        code, summary = client.stop()
        self.assertEqual(code, 0, client.process.output())
        check(summary)
        acknowledged, duplicated = world.assert_nothing_lost(self, pair.b, [client])
        print(f"failover {index}: after {moment * 1000:.0f} ms, window {window}, acknowledged={acknowledged} lost=0 duplicated={duplicated} "
              f"silence_ms={summary['longest_silence_ms']}", flush=True)
        pair.close()
        return summary["longest_silence_ms"]
