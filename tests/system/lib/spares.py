"""A pair with a third site, in a RoutedTopology: a and b as ever, c the spare."""

import os
import shutil

from . import control, guests, netns, wait
from .credentials import SITE_NAME, Credentials
from .pair import LedgerClient, Pair, Site, TIEBREAKER_PORT
from .tiebreaker import Tiebreaker
from .world import Owner

SPARE_AFTER_S = 2  # how long a site alone waits at one of the others


class NoEmulator:
    """For what forwards ports where there is an emulator."""

    def forward_tcp(self, *_):
        pass


class SparePair(Pair):
    """Each site is turned to the next of a, b, c first, and to the remaining one if that does not answer."""

    FIRST = {"a": "b", "b": "a", "c": "a"}
    ROLE = {"a": "primary", "b": "backup", "c": "spare"}

    def __init__(self, topology, folder, guest, credentials, name="vm"):
        super().__init__(topology, None, folder, guest, credentials, name=name, heartbeat_ms=60)
        self.c = self.sites["c"] = Site(self, "c")
        self._write_site(self.c)

    def _write_site(self, site):
        super()._write_site(site)
        for letter, folder in self.credentials.pair_keys(self.name).items():
            shutil.copy(os.path.join(folder, "channel.pub"), os.path.join(site.config, f"{SITE_NAME[letter]}.pub"))

    def pair_settings(self, site):
        first = self.FIRST[site.letter]
        third = next(letter for letter in "abc" if letter not in (site.letter, first))
        own, peer, other = (netns.SITE_ADDRESS[letter] for letter in (site.letter, first, third))
        return f"""
[pair]
name = "{self.name}"
site = "{site.name}"
peer_site = "{SITE_NAME[first]}"
role = "{self.ROLE[site.letter]}"
state_directory = "{site.state}"
[next_site]
site = "{SITE_NAME[third]}"
channel = "tcp://{other}:{self.channel_port}"
channel_key = "{SITE_NAME[third]}.pub"
heartbeat = "{other}:{self.heartbeat_port}"
heartbeat_key = "heartbeat.key"
spare_after_s = {SPARE_AFTER_S}
[channel]
listen = "tcp://{own}:{self.channel_port}"
peer = "tcp://{peer}:{self.channel_port}"
own_key = "channel.key"
peer_key = "{SITE_NAME[first]}.pub"
[heartbeat]
listen = "{own}:{self.heartbeat_port}"
peer = "{peer}:{self.heartbeat_port}"
key = "heartbeat.key"
interval_ms = {self.heartbeat_ms}
[tiebreaker]
address = "{netns.SITE_ADDRESS['t']}:{TIEBREAKER_PORT}"
ca = "ca.pem"
certificate = "site.pem"
key = "site.key"
[control]
socket = "{site.socket}"
"""

    def wait_for_roles(self, primary, backup, seconds=60):
        """Until these two protect the VM together."""

        def protected():
            for site in (primary, backup):
                if not site.process.running():
                    raise AssertionError(f"{site.process.name} ended with {site.process.exit_code()}:\n{site.process.output()[-3000:]}")
            words = [(site.status()["role"], site.status()["protection"]) for site in (primary, backup)]
            return words == [("primary", "protected"), ("backup", "protected")] or None

        wait.until(f"{primary.name} is protected by {backup.name}", protected, seconds)

    def act(self, site, method, **params):
        return control.call(site.socket, method, actor="test", confirm=self.name, **params)


class SpareWorld(Owner):
    def build(self):
        self.topology = self.own(netns.RoutedTopology())
        self.credentials = Credentials(os.path.join(self.folder, "credentials"))
        self.tiebreaker = self.own(Tiebreaker(self.topology, NoEmulator(), os.path.join(self.folder, "tiebreaker"), self.credentials))

    def started(self):
        """A pair in step, with an idle spare, and a client that keeps it busy."""
        folder = os.path.join(self.folder, "vm")
        os.makedirs(folder)
        pair = self.own(SparePair(self.topology, folder, guests.udp_echo(), self.credentials))
        for site in (pair.c, pair.b, pair.a):
            site.start()
        pair.wait_for_roles(pair.a, pair.b, 30)
        client = self.own(LedgerClient(pair, options=["--window", "4"]))
        client.wait_for_acknowledged(20)
        return pair, client
