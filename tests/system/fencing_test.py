#!/usr/bin/env python3
"""A primary that stood still (SIGSTOP) while the other site won wakes up fenced: no frame of it reaches the network, no byte its
disk, and the client's ledger is the survivor's. ANTIPODE_STOP_SECONDS sets how long it stands after the other has won (3)."""

import hashlib
import json
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import campaign, case, guests, process, requirements, wait, world  # noqa: E402  pylint: disable=wrong-import-position
from lib.world_case import WorldCase  # noqa: E402  pylint: disable=wrong-import-position

requirements.require(requirements.missing_for_namespaces(), requirements.missing_for_guests())
SECONDS = float(os.environ.get("ANTIPODE_STOP_SECONDS", "3"))
CAMPAIGN_SEED = int(os.environ.get("ANTIPODE_SEED", "1"))
CAMPAIGN_ROUNDS = int(os.environ.get("ANTIPODE_ROUNDS", "4"))


def digest(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


class Fencing(WorldCase):
    def frames_from_guest(self, site):
        """How many frames the VM at this site has sent by now: those that its TAP has received."""
        links = json.loads(process.run(["ip", "-s", "-j", "link", "show", site.pair.tap],
                                       namespace=site.pair.topology.name(site.letter)).stdout)
        return links[0]["stats64"]["rx"]["packets"]

    def test_a_site_that_wakes_up_after_it_has_lost(self):
        pair = self.world.pair(guests.udp_echo(), heartbeat_ms=40)
        pair.start()
        client = self.world.client(pair, options=["--window", "16"])
        client.wait_for_acknowledged(20)
        self.assertGreater(self.frames_from_guest(pair.a), 0, "the count counts")
        pair.a.process.pause()
        pair.b.wait_for_state("solo")
        client.wait_for_acknowledged(client.acknowledged() + 50)
        time.sleep(SECONDS)  # how long it stands is what is tried here
        disk, frames = digest(pair.a.disk), self.frames_from_guest(pair.a)
        # It may not be mended from the survivor: what changes its disk then is its own.
        self.world.wan.cut("a<->b")
        pair.a.process.resume()
        wait.until("it notices that it has lost",
                   lambda: not pair.a.process.running() or pair.a.status()["state"] in ("halted", "joining"), 30)
        client.wait_for_acknowledged(client.acknowledged() + 50)
        self.assertEqual(self.frames_from_guest(pair.a), frames, "it has sent something")
        self.assertEqual(digest(pair.a.disk), disk, "it has written something")
        self.world.wan.heal("a<->b")
        client.wait_for_acknowledged(client.acknowledged() + 20)
        self.assertEqual(self.frames_from_guest(pair.a), frames, "it has sent something after the line was whole")
        client.stop()
        if pair.a.process.running():
            pair.a.process.stop()
        world.assert_nothing_lost(self, pair.b, [client])

    def test_a_short_campaign(self):
        """tests/system/campaign in small."""
        for index in range(CAMPAIGN_ROUNDS):
            plan = campaign.Round(CAMPAIGN_SEED, index)
            print(f"round {index} of seed {CAMPAIGN_SEED}: {plan}", flush=True)
            survivor, acknowledged, duplicated, silence = campaign.Run(self, self.world, plan, index).play()
            print(f"round {index}: {survivor.name} goes on, acknowledged={acknowledged} lost=0 duplicated={duplicated} "
                  f"silence_ms={silence}", flush=True)


if __name__ == "__main__":
    case.main()
