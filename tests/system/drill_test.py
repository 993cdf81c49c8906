#!/usr/bin/env python3
"""Drills: a copy of the backup's VM runs live beside it, in a network of its own or none, while the pair stays protected and
the client notices nothing. What the copy does to its disk is not done to the backup's."""

import hashlib
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import case, control, guests, netns, requirements, wait, world  # noqa: E402  pylint: disable=wrong-import-position
from lib.world_case import WorldCase  # noqa: E402  pylint: disable=wrong-import-position

requirements.require(requirements.missing_for_namespaces(), requirements.missing_for_guests())


class Drill(WorldCase):
    @staticmethod
    def start_drill(site, **parameters):
        return control.call(site.socket, "drill_start", confirm=site.pair.name, actor="test", **parameters)

    @staticmethod
    def drill(site):
        return control.call(site.socket, "drill")

    def wait_for_drill(self, site, *states, seconds=20):
        return wait.until(f"the drill is {' or '.join(states)}", lambda: (
            lambda drill: drill if drill and drill["state"] in states else None)(self.drill(site)), seconds)

    def assert_protected(self, pair):
        if pair.guest.mode == "checkpoint":
            before = pair.a.status()["checkpoint"]["acknowledged"]
            wait.until("checkpoints arrive", lambda: pair.a.status()["checkpoint"]["acknowledged"] > before + 2, 30)
            self.assertEqual(pair.a.status()["protection"], "protected")
            return
        checked = pair.b.status()["digest"]["checked"]
        wait.until("digests are compared", lambda: pair.b.status()["digest"]["checked"] > checked + 2, 30)
        self.assertEqual(pair.b.status()["digest"]["mismatches"], 0)
        self.assertEqual(pair.a.status()["protection"], "protected")

    def test_copies_run_beside_the_backup_again_and_again(self):
        for build in (guests.disk_writer, guests.counter):
            guest = build()
            pair = self.protected_pair(guest, name=guest.name.replace("_", "-"))
            for _ in range(3):
                self.start_drill(pair.b, duration_seconds=60)
                drill = self.wait_for_drill(pair.b, "running")
                begin = drill["exits"]
                wait.until("the copy works", lambda: self.drill(pair.b)["exits"] > begin + 100, 30)
                wait.until("the copy prints", lambda: control.call(pair.b.socket, "drill_console")["text"], 30)
                self.assert_protected(pair)
                drill = self.drill(pair.b)
                self.assertEqual(drill["state"], "running")
                self.assertGreater(drill["memory_bytes"], 0)
                print(f"drill of {guest.name}: lag_seconds={drill['lag_seconds']:.3f} copy_seconds={drill['copy_seconds']:.4f} "
                      f"live_seconds={drill['live_seconds']:.3f} overlay_bytes={drill['overlay_bytes']}", flush=True)
                control.call(pair.b.socket, "drill_stop", actor="test")
                self.assertEqual(self.drill(pair.b)["state"], "ended")
            control.call(pair.b.socket, "drill_clean", actor="test")
            self.assertFalse(os.path.exists(os.path.join(pair.b.state, "drill")))
            # The backup is still the VM.
            pair.a.kill()
            pair.b.wait_for_state("solo")
            length = len(pair.b.console())
            wait.until("the console goes on", lambda p=pair, n=length: len(p.b.console()) > n, 20)
            pair.close()

    def test_in_checkpoint_mode(self):
        """The last checkpoint runs beside the backup, which goes on taking the next ones."""
        pair = self.protected_pair(guests.smp_counter())
        for _ in range(3):
            seen = guests.counted_lines(pair.a.console())[-1]
            self.start_drill(pair.b, duration_seconds=60)
            self.wait_for_drill(pair.b, "running")
            text = lambda: control.call(pair.b.socket, "drill_console")["text"]  # noqa: E731
            wait.until("the copy counts", lambda t=text: len(guests.counted_lines(t())) >= 4, 30)
            lines = guests.counted_lines(text())
            self.assertEqual(lines, list(range(lines[0], lines[0] + len(lines))))
            self.assertGreaterEqual(lines[0], seen)
            self.assertNotIn("EXIT-FAILURE", text())
            self.assert_protected(pair)
            drill = self.drill(pair.b)
            self.assertEqual(drill["state"], "running")
            print(f"drill in checkpoint mode: lag_seconds={drill['lag_seconds']:.3f} copy_seconds={drill['copy_seconds']:.4f} "
                  f"live_seconds={drill['live_seconds']:.3f}", flush=True)
            control.call(pair.b.socket, "drill_stop", actor="test")
            self.assertEqual(self.drill(pair.b)["state"], "ended")
        pair.a.kill()
        pair.b.wait_for_state("solo")
        length = len(pair.b.console())
        wait.until("the console goes on", lambda: len(pair.b.console()) > length + 200, 20)

    def test_in_a_network_of_its_own_in_checkpoint_mode(self):
        self.copy_answers_in_its_network(guests.smp_echo())

    def test_in_a_network_of_its_own_under_load(self):
        self.copy_answers_in_its_network(guests.udp_echo())

    def copy_answers_in_its_network(self, guest):
        pair = self.world.pair(guest, digest_interval_ms=100, heartbeat_ms=100,
                               settings={"drill": 'taps = ["drilltap0"]'})
        self.world.topology.add_isolated_tap("b", "drilltap0", f"{netns.GUEST_ADDRESS.rpartition('.')[0]}.200/24")
        pair.start()
        client = self.world.client(pair, options=["--window", "4"])
        client.wait_for_acknowledged(50)
        with self.assertRaises(control.Refused):
            self.start_drill(pair.a, options='{"network":"isolated"}')
        self.start_drill(pair.b, options='{"network":"isolated"}', duration_seconds=120)
        drill = self.wait_for_drill(pair.b, "running")
        self.assertEqual(drill["taps"], ["drilltap0"])
        before = client.acknowledged()
        client.wait_for_acknowledged(before + 100)
        # The copy answers in its own network, with a ledger that holds what was acknowledged before it was made.
        answer = wait.until("the copy answers", lambda: self.world.topology.ask_udp(
            "b", "drilltap0", pair.guest_address, 7, b"drill 1"), 20)
        self.assertIn(b"drill 1", answer)
        wait.until("the copy's frames are counted", lambda: self.drill(pair.b)["received_frames"] > 0, 20)
        self.assert_protected(pair)
        with self.assertRaises(control.Refused):
            self.start_drill(pair.b)
        # A failover does not wait for a drill, and its disk has nothing of the drill's.
        pair.a.kill()
        pair.b.wait_for_state("solo")
        self.assertEqual(self.drill(pair.b)["state"], "ended")
        before = client.acknowledged()
        client.wait_for_acknowledged(before + 20)
        code, _ = client.stop()
        self.assertEqual(code, 0, client.process.output())
        acknowledged, duplicated = world.assert_nothing_lost(self, pair.b, [client])
        with open(pair.b.disk, "rb") as disk:
            self.assertNotIn(b"drill 1", disk.read())
        print(f"drill under load, then a failover: acknowledged={acknowledged} lost=0 duplicated={duplicated}", flush=True)

    def test_digests_of_the_copied_disks(self):
        """Of what was copied, whatever the copy and the backup write meanwhile."""
        for build in (guests.counter, guests.disk_writer):
            guest = build()
            pair = self.protected_pair(guest, name=guest.name.replace("_", "-"))
            if guest.name == "counter":  # which writes nothing: the content is ours
                with open(pair.b.disk, "rb") as disk:
                    expected = hashlib.sha256(disk.read()).hexdigest()
            self.start_drill(pair.b, duration_seconds=60)
            disks = wait.until("the digests", lambda p=pair: (lambda d: d if d and all(each["sha256"] for each in d) else None)(
                self.drill(p.b)["disks"]), 30)
            self.assertEqual([(each["id"], each["size_bytes"]) for each in disks], [("data", guest.disk_bytes)])
            if guest.name == "counter":
                self.assertEqual(disks[0]["sha256"], expected)
            else:
                exits = self.drill(pair.b)["exits"]
                wait.until("the copy writes", lambda p=pair, e=exits: self.drill(p.b)["exits"] > e + 100, 30)
                self.assertEqual(self.drill(pair.b)["disks"], disks)
            control.call(pair.b.socket, "drill_stop", actor="test")
            pair.close()

    def test_bounds(self):
        pair = self.protected_pair(guests.disk_writer())
        for wrong in ({"duration_seconds": 0}, {"options": "{"}, {"options": '{"network":"production"}'}):
            with self.assertRaises(control.Refused):
                self.start_drill(pair.b, **wrong)
        with self.assertRaises(control.Refused):
            self.start_drill(pair.a)
        self.start_drill(pair.b, duration_seconds=1)
        self.assertIn("time", self.wait_for_drill(pair.b, "ended")["text"])
        self.start_drill(pair.b, options='{"overlay_bytes_max":131072}')
        self.assertIn("overlays", self.wait_for_drill(pair.b, "ended", seconds=40)["text"])
        # Ended before the VM stood, and begun again at once: the copy is of where it stands now.
        for _ in range(5):
            self.start_drill(pair.b)
            control.call(pair.b.socket, "drill_stop", actor="test")
        self.start_drill(pair.b)
        begin = self.wait_for_drill(pair.b, "running")["exits"]
        wait.until("the copy works", lambda: self.drill(pair.b)["exits"] > begin + 100, 30)
        control.call(pair.b.socket, "drill_stop", actor="test")
        self.assert_protected(pair)


if __name__ == "__main__":
    case.main()
