#!/usr/bin/env python3
"""A Linux guest with an open TCP connection outlives kill -9 of its primary: same connection, same uptime, nothing lost."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import case, guests, requirements, world  # noqa: E402  pylint: disable=wrong-import-position

requirements.require(requirements.missing_for_namespaces(), requirements.missing_for_guests(),
                     None if guests.linux() else "the Linux guest is not built (tests/guests/linux/build)")


class LinuxFailover(case.Case):
    def test_connection_and_uptime_survive(self):
        here = self.owned(world.World(self.folder, delay_ms=10))
        pair = here.pair(guests.linux())
        pair.start(seconds=60)
        tcp = here.client(pair, name="tcp", transport="tcp")
        udp = here.client(pair, name="udp", transport="udp")
        tcp.wait_for_acknowledged(20, seconds=60)
        udp.wait_for_acknowledged(20, seconds=60)
        pair.a.kill()
        before_tcp, before_udp = tcp.acknowledged(), udp.acknowledged()
        pair.b.wait_for_state("solo")
        tcp.wait_for_acknowledged(before_tcp + 20, seconds=60)
        udp.wait_for_acknowledged(before_udp + 20, seconds=60)
        code, summary = tcp.stop()
        self.assertEqual(code, 0, tcp.process.output())
        self.assertEqual(summary["connection"], "kept")
        self.assertEqual(summary["uptime_steps_back"], 0)
        udp.stop()
        acknowledged, duplicated = world.assert_nothing_lost(self, pair.b, [tcp, udp])
        print(f"linux: acknowledged={acknowledged} lost=0 duplicated={duplicated} silence_ms={summary['longest_silence_ms']}")


if __name__ == "__main__":
    case.main()
