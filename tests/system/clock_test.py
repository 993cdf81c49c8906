#!/usr/bin/env python3
"""The guest's clock over a failover: it goes on in step with the world's, in both modes. Each reading lies between the moment at
which it was asked for and that at which the answer came; so nothing depends on how fast this machine is."""

import os
import socket
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import case, guests, netns, requirements, wait  # noqa: E402  pylint: disable=wrong-import-position
from lib.world_case import WorldCase  # noqa: E402  pylint: disable=wrong-import-position

requirements.require(requirements.missing_for_namespaces(), requirements.missing_for_guests())
STEP_MAX_MS = 250  # what the backup may have misjudged; a lost or doubled second is more


class Clock(WorldCase):
    def offset(self, asking, pair, name):
        """(least, most) that the guest's clock is ahead of this machine's, in ms."""

        def ask():
            payload = f"{name} {time.monotonic_ns()}".encode()
            before = time.monotonic() * 1000
            try:
                asking.sendto(payload, (pair.guest_address, 7))
                while True:
                    answer = asking.recv(2048)
                    if answer.startswith(payload):
                        break
            except OSError:
                return None  # it has not taken over yet
            after = time.monotonic() * 1000
            shown = int(answer.split(b"uptime_ms=")[1].split()[0])
            return shown - after, shown - before

        return wait.until(f"an answer {name}", ask, 30)

    def goes_on(self, guest):
        pair = self.protected_pair(guest)

        def make():
            asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            asking.settimeout(0.5)
            return asking

        with netns.made_in(self.world.topology.name("client"), make) as asking:
            least, most = self.offset(asking, pair, "before")
            for _ in range(10):
                low, high = self.offset(asking, pair, "before")
                least, most = max(least, low), min(most, high)
            pair.a.kill()
            pair.b.wait_for_state("solo")
            for _ in range(10):
                low, high = self.offset(asking, pair, "after")
                self.assertLess(low, most + STEP_MAX_MS, "the clock is ahead")
                self.assertGreater(high, least - STEP_MAX_MS, "the clock is behind")
        print(f"{guest.name} {guest.mode or 'lockstep'}: offset before {least:.1f} to {most:.1f} ms, after {low:.1f} to {high:.1f} ms",
              flush=True)

    def test_lockstep(self):
        self.goes_on(guests.udp_echo())

    def test_checkpoint_mode(self):
        self.goes_on(guests.smp_echo())

    def test_linux(self):
        guest = guests.linux()
        if guest is None:
            self.skipTest("the Linux guest is not built (tests/guests/linux/build)")
        self.goes_on(guest)


if __name__ == "__main__":
    case.main()
