#!/usr/bin/env python3
"""A site that stood still (SIGSTOP) while the other one won or was forced wakes up fenced: no frame of it reaches the network, no
byte its disk, and the client's ledger is the survivor's. ANTIPODE_STOP_SECONDS sets how long it stands after the other has won (3)."""

import hashlib
import json
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import campaign, case, control, guests, process, requirements, violations, wait, world  # noqa: E402  pylint: disable=wrong-import-position
from lib.world_case import WorldCase  # noqa: E402  pylint: disable=wrong-import-position

requirements.require(requirements.missing_for_namespaces(), requirements.missing_for_guests())
SECONDS = float(os.environ.get("ANTIPODE_STOP_SECONDS", "3"))
CAMPAIGN_SEED = int(os.environ.get("ANTIPODE_SEED", "1"))
CAMPAIGN_ROUNDS = int(os.environ.get("ANTIPODE_ROUNDS", "4"))
OBSERVED_SECONDS = 3  # how long it is watched that nothing happens


def digest(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


class Fencing(WorldCase):
    def frames_from_guest(self, site):
        """How many frames the VM at this site has sent by now: those that its TAP has received."""
        links = json.loads(process.run(["ip", "-s", "-j", "link", "show", site.pair.tap],
                                       namespace=site.pair.topology.name(site.letter)).stdout)
        return links[0]["stats64"]["rx"]["packets"]

    def assert_did_nothing(self, site, disk, frames):
        with violations.kept():
            self.assertEqual(self.frames_from_guest(site), frames, "it has sent something")
            self.assertEqual(digest(site.disk), disk, "it has written something")

    def pair_with_client(self):
        pair = self.world.pair(guests.udp_echo(), heartbeat_ms=40)
        pair.start()
        client = self.world.client(pair, options=["--window", "16"])
        client.wait_for_acknowledged(20)
        self.assertGreater(self.frames_from_guest(pair.a), 0, "the count counts")
        return pair, client

    def stands_while_the_other_wins(self, cut=()):
        """(pair, client, the stopped primary's disk, its frames). What is cut is so before anybody can tell it of its loss."""
        pair, client = self.pair_with_client()
        pair.a.process.pause()
        for line in cut:
            self.world.wan.cut(line)
        pair.b.wait_for_state("solo")
        client.wait_for_acknowledged(client.acknowledged() + 50)
        time.sleep(SECONDS)  # how long it stands is what is tried here
        return pair, client, digest(pair.a.disk), self.frames_from_guest(pair.a)

    def test_a_site_that_wakes_up_after_it_has_lost(self):
        pair, client, disk, frames = self.stands_while_the_other_wins()
        # It may not be mended from the survivor: what changes its disk then is its own.
        self.world.wan.cut("a<->b")
        pair.a.process.resume()
        wait.until("it notices that it has lost",
                   lambda: not pair.a.process.running() or pair.a.status()["state"] in ("halted", "joining"), 30)
        client.wait_for_acknowledged(client.acknowledged() + 50)
        self.assert_did_nothing(pair.a, disk, frames)
        self.end_whole(pair, client, frames)

    def end_whole(self, pair, client, frames):
        self.world.wan.heal("a<->b")
        client.wait_for_acknowledged(client.acknowledged() + 20)
        with violations.kept():
            self.assertEqual(self.frames_from_guest(pair.a), frames, "it has sent something after the line was whole")
        client.stop()
        if pair.a.process.running():
            pair.a.process.stop()
        world.assert_nothing_lost(self, pair.b, [client])

    def watch_it_do_nothing(self, site, disk, frames, states):
        end = time.monotonic() + OBSERVED_SECONDS
        while time.monotonic() < end:
            self.assertIn(site.status()["state"], states)
            self.assert_did_nothing(site, disk, frames)
            time.sleep(0.1)

    def test_a_site_that_wakes_up_and_can_ask_nobody(self):
        """Neither its peer nor the tiebreaker can tell it that it has lost: it holds still by itself."""
        pair, client, disk, frames = self.stands_while_the_other_wins(cut=("a<->t",))
        self.world.wan.cut("a<->b")
        pair.a.process.resume()
        # "halted": the word of its loss was on its way to it already when the line was cut.
        pair.a.wait_for_state("waiting", "halted", seconds=30)
        self.watch_it_do_nothing(pair.a, disk, frames, ("waiting", "halted"))
        client.wait_for_acknowledged(client.acknowledged() + 50)
        self.world.wan.heal("a<->t")
        wait.until("it is told that it has lost",
                   lambda: not pair.a.process.running() or pair.a.status()["state"] == "halted", 30)
        self.assert_did_nothing(pair.a, disk, frames)
        self.end_whole(pair, client, frames)

    def force(self, site):
        """An operator's force, again until nothing is heard of the peer any more, here and at the tiebreaker."""

        def went_live():
            if site.status()["state"] == "solo":
                return True
            try:
                control.call(site.socket, "force", actor="test", confirm=site.pair.name, peer_is_down=True,
                             accept_loss=True)
            except control.Refused:
                pass
            return False

        wait.until(f"{site.name} is forced", went_live, 90, interval=0.5)

    def test_a_solo_site_that_wakes_up_after_a_force_has_overruled_it(self):
        """The only member of its record has nobody whose silence would hold it back: it must ask before it does anything."""
        pair, client = self.pair_with_client()
        pair.b.kill()
        pair.a.wait_for_state("solo")
        client.wait_for_acknowledged(client.acknowledged() + 50)
        pair.a.process.pause()
        pair.b.start()
        pair.b.wait_for_state("starting", "halted")
        self.force(pair.b)
        client.wait_for_acknowledged(client.acknowledged() + 20, seconds=60)
        # By now what the kernel was doing for it when it was stopped is done.
        disk, frames = digest(pair.a.disk), self.frames_from_guest(pair.a)
        self.world.wan.cut("a<->b")
        pair.a.process.resume()
        pair.a.wait_for_state("halted", seconds=30)
        self.assert_did_nothing(pair.a, disk, frames)
        self.world.wan.heal("a<->b")
        client.wait_for_acknowledged(client.acknowledged() + 20)
        # What it did alone was overruled: it keeps its copy until an operator says otherwise.
        self.watch_it_do_nothing(pair.a, disk, frames, ("halted",))
        wait.until("it waits for a word", lambda: any("overruled" in alert["text"] for alert in pair.a.status()["alerts"]), 30)
        client.stop()

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
