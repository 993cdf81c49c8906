"""The whole of it: a topology, the line, a tiebreaker, credentials, and pairs as they are asked for."""

import os

from . import guests, violations
from .credentials import Credentials
from .netns import Topology
from .pair import LedgerClient, Pair
from .tiebreaker import Tiebreaker
from .wan import Wan


class Owner:
    """Ends what it owns."""

    def __init__(self, folder):
        self.folder = folder
        self._things = []
        try:
            self.build()
        except BaseException:
            self.close()
            raise

    def build(self):
        raise NotImplementedError

    def own(self, thing):
        self._things.append(thing)
        return thing

    def close(self):
        """Ends everything, last first; all of it, whatever fails."""
        failures = []
        for thing in reversed(self._things):
            try:
                (thing.close if hasattr(thing, "close") else thing.discard)()
            except Exception as error:  # pylint: disable=broad-except
                failures.append(error)
        self._things = []
        if failures:
            raise failures[0]


class World(Owner):
    def __init__(self, folder, delay_ms=5, rate_mbytes=125, seed=1):
        self._line = (delay_ms, rate_mbytes, seed)
        self._pairs = 0
        super().__init__(folder)

    def build(self):
        delay_ms, rate_mbytes, seed = self._line
        self.topology = self.own(Topology())
        self.wan = self.own(Wan(self.topology, os.path.join(self.folder, "wan.log"), seed=seed))
        self.wan.set("a<->b", delay_ms=delay_ms, rate_mbytes=rate_mbytes)
        for site in ("a", "b"):
            self.wan.set(f"{site}<->t", delay_ms=delay_ms)
        self.credentials = Credentials(os.path.join(self.folder, "credentials"))
        self.tiebreaker = self.own(Tiebreaker(self.topology, self.wan, os.path.join(self.folder, "tiebreaker"), self.credentials))

    def pair(self, guest, **options):
        """A new pair with ports, TAPs and a guest address of its own; its files are in a folder of its name."""
        index = self._pairs
        self._pairs += 1
        name = options.pop("name", f"vm{index}")
        folder = os.path.join(self.folder, name)
        os.makedirs(folder)
        return self.own(Pair(self.topology, self.wan, folder, guest, self.credentials, name=name, index=index, **options))

    def client(self, pair, **options):
        return self.own(LedgerClient(pair, **options))


def assert_nothing_lost(test, site, clients):
    """Ends the survivor and holds its disk against what the clients saw; (acknowledged, duplicated)."""
    site.process.stop()
    acknowledged, lost, duplicated, sound, text = guests.check_ledger(site.disk, [client.log for client in clients])
    with violations.kept():
        test.assertEqual(lost, 0, text)
        test.assertTrue(sound, text)
    test.assertGreater(acknowledged, 0, text)
    return acknowledged, duplicated
