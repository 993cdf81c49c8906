#!/usr/bin/env python3
"""What operators do to a protected VM: pause, resume, reset, power off, console keys. The backup follows each of them, and
what it holds afterwards is the VM: digests agree, and a failover goes on from there."""

import json
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import case, control, guests, requirements, wait, world  # noqa: E402  pylint: disable=wrong-import-position
from lib.world_case import WorldCase  # noqa: E402  pylint: disable=wrong-import-position

requirements.require(requirements.missing_for_namespaces(), requirements.missing_for_guests())
OBSERVED_SECONDS = 1.0  # how long it is watched that nothing happens


class Operate(WorldCase):
    ECHO = staticmethod(guests.udp_echo)
    RESET = (guests.udp_echo, guests.disk_writer)

    def assert_follows(self, pair):
        """More digests are compared at the backup, and none differs."""
        if pair.guest.mode == "checkpoint":
            before = pair.primary().status()["checkpoint"]["acknowledged"]
            wait.until("checkpoints arrive", lambda: pair.primary().status()["checkpoint"]["acknowledged"] > before + 2, 30)
            self.assertEqual(pair.primary().status()["protection"], "protected")
            return
        backup = pair.other(pair.primary())
        checked = backup.status()["digest"]["checked"]
        wait.until("digests are compared", lambda: backup.status()["digest"]["checked"] > checked + 2, 30)
        self.assertEqual(backup.status()["digest"]["mismatches"], 0)
        self.assertEqual(pair.primary().status()["protection"], "protected")

    @staticmethod
    def act(site, method, **parameters):
        return control.call(site.socket, method, confirm=site.pair.name, actor="test", **parameters)

    @staticmethod
    def operation(site, number):
        return next(each for each in site.status()["operations"] if each["id"] == number)

    def finished(self, site, number, state="succeeded"):
        ended = wait.until(f"operation {number} ends", lambda: next(
            (each for each in [self.operation(site, number)] if each["state"] != "running"), None), 60)
        self.assertEqual(ended["state"], state, ended)
        self.assertIsNotNone(ended["ended_unix_ms"])
        return ended

    @staticmethod
    def codes(site):
        return [event["code"] for event in control.call(site.socket, "events", limit=256)["events"]]

    def test_what_takes_time_is_followed_to_its_end(self):
        """Unprotect, protect, and a seed: each is an operation that ends when the pair has come to it, with the seed's progress."""
        pair = self.protected_pair(guests.udp_echo())
        client = self.world.client(pair)
        client.wait_for_acknowledged(20)
        self.assertTrue(self.act(pair.a, "unprotect", check=True)["allowed"])
        self.assertFalse(self.act(pair.b, "unprotect", check=True)["allowed"])
        self.finished(pair.a, self.act(pair.a, "unprotect")["operation"])
        self.assertEqual((pair.a.status()["state"], pair.a.status()["protection"]), ("solo", "unprotected"))
        with self.assertRaises(control.Refused):
            self.act(pair.a, "unprotect")
        # Over a line so long that a seed can be watched: it needs several round trips, and nobody is in step yet.
        self.world.wan.set("a<->b", delay_ms=500)
        number = self.act(pair.a, "protect")["operation"]
        wait.until("the new backup's disks are being filled", lambda: [
            disk for disk in pair.b.status()["disks"] if disk["state"] == "syncing" and disk["synced_ratio"] is not None], 60)
        wait.until("how far it is", lambda: self.operation(pair.a, number)["progress_ratio"] is not None, 60)
        self.assertEqual({disk["state"] for disk in pair.a.status()["disks"]}, {"up_to_date"})
        with self.assertRaises(control.Refused) as caught:
            self.act(pair.a, "cancel", operation=number)
        self.assertIn("a protect cannot be cancelled", caught.exception.message)
        self.finished(pair.a, number)
        pair.wait_until_protected(60)
        self.assertEqual({disk["state"] for disk in pair.b.status()["disks"]}, {"up_to_date"})
        self.world.wan.set("a<->b", delay_ms=5)
        self.finished(pair.a, self.act(pair.a, "seed")["operation"])
        pair.wait_until_protected(60)
        self.assertIs(pair.primary(), pair.a)
        told = self.codes(pair.b)
        for code, count in (("halted", 2), ("disk_sync_started", 2), ("disk_sync_finished", 2), ("paired", 3)):
            self.assertEqual(told.count(code), count, told)
        self.assertLess(told.index("disk_sync_started"), told.index("disk_sync_finished"))
        status = pair.a.status()
        self.assertGreater(status["tiebreaker"]["rtt_seconds"], 0)
        self.assertIsNotNone(status["tiebreaker"]["last_answer_seconds"])
        self.assertEqual(status["versions"]["peer_software"], status["versions"]["software"])
        for method in ("resolve", "reload"):
            with self.assertRaises(control.Refused) as caught:
                self.act(pair.a, method)
            self.assertEqual(caught.exception.code, "unsupported")
        # A failover that an operator asks for ends with the VM at the other site.
        self.finished(pair.b, self.act(pair.b, "failover")["operation"])
        self.assertEqual(pair.b.status()["state"], "solo")
        for code in ("acquire_asked", "acquire_won", "went_live"):
            self.assertIn(code, self.codes(pair.b))
        pair.wait_until_protected(60)
        self.assertIs(pair.primary(), pair.b)
        client.stop()
        world.assert_nothing_lost(self, pair.b, [client])

    def test_pause_and_resume(self):
        pair = self.protected_pair(self.ECHO())
        client = self.world.client(pair)
        client.wait_for_acknowledged(20)
        with self.assertRaises(control.Refused):
            self.act(pair.b, "pause")
        self.act(pair.a, "pause")
        wait.until("both stand", lambda: all(site.status()["vm"]["vcpu"] == "paused" for site in (pair.a, pair.b)), 10)
        with self.assertRaises(control.Refused):
            self.act(pair.a, "pause")
        exits = [site.status()["execution"]["exits"] for site in (pair.a, pair.b)]
        wait.until("what was made before has left", lambda: pair.a.status()["output"]["held"] == 0, 10)
        time.sleep(OBSERVED_SECONDS)  # and has arrived
        before = client.acknowledged()
        time.sleep(OBSERVED_SECONDS)
        self.assertEqual([site.status()["execution"]["exits"] for site in (pair.a, pair.b)], exits)
        self.assertEqual(exits[0], exits[1], "they stand at the same exit")
        self.assertEqual(client.acknowledged(), before)
        self.assertEqual(pair.a.status()["protection"], "protected")
        self.act(pair.a, "resume")
        client.wait_for_acknowledged(before + 50)
        self.assert_follows(pair)
        client.stop()
        world.assert_nothing_lost(self, pair.a, [client])

    def test_a_paused_vm_stays_paused_over_a_failover_and_a_switchover(self):
        pair = self.protected_pair(self.ECHO())
        client = self.world.client(pair)
        client.wait_for_acknowledged(20)
        self.act(pair.a, "pause")
        wait.until("both stand", lambda: all(site.status()["vm"]["vcpu"] == "paused" for site in (pair.a, pair.b)), 10)
        self.act(pair.a, "switchover")
        pair.b.wait_for_state("primary")
        pair.wait_until_protected()
        self.assertEqual(pair.b.status()["vm"]["vcpu"], "paused")
        pair.b.kill()
        pair.a.wait_for_state("solo")
        before = client.acknowledged()
        time.sleep(OBSERVED_SECONDS)
        self.assertEqual(client.acknowledged(), before)
        self.act(pair.a, "resume")
        client.wait_for_acknowledged(before + 20)
        client.stop()
        world.assert_nothing_lost(self, pair.a, [client])

    def test_reset_boots_again_at_both_sites(self):
        for build in self.RESET:
            guest = build()
            pair = self.protected_pair(guest, name=f"reset-{guest.name.replace('_', '-')}")
            clients = []
            if guest.network:
                clients.append(self.world.client(pair, name=f"before-{guest.name}"))
                clients[0].wait_for_acknowledged(20)
            for count in (2, 3):
                self.act(pair.a, "reset")
                wait.until("it is ready again", lambda n=count: pair.a.console().count(guest.ready) >= n, 30)
                self.assert_follows(pair)
            pair.a.kill()
            pair.b.wait_for_state("solo")
            for client in clients:
                before = client.acknowledged()
                client.wait_for_acknowledged(before + 20)
                client.stop()
            if clients:
                world.assert_nothing_lost(self, pair.b, clients)
            pair.close()

    def test_power_off_ends_both_sites(self):
        pair = self.protected_pair(self.ECHO())
        client = self.world.client(pair)
        client.wait_for_acknowledged(20)
        self.act(pair.a, "shutdown")
        pair.a.wait_for_state("stopped")
        pair.b.wait_for_state("stopped")
        for site in (pair.a, pair.b):
            self.assertEqual(site.status()["vm"]["vcpu"], "stopped")
        before = client.acknowledged()
        time.sleep(OBSERVED_SECONDS)
        self.assertEqual(client.acknowledged(), before)
        for site in (pair.a, pair.b):
            self.assertIn(site.status()["state"], ("stopped",))
            self.assertEqual(site.process.stop(), 0)
        # Both started again: the VM boots from its disk, and is protected again.
        pair.start(60)
        client.wait_for_acknowledged(before + 20)
        client.stop()
        world.assert_nothing_lost(self, pair.primary(), [client])

    def test_a_guest_that_ends_ends_protection_at_both_sites(self):
        guest = guests.counter()
        guest.arguments += " antipode.count=1000 antipode.halt=1"
        guest.mode = self.ECHO().mode
        pair = self.protected_pair(guest)
        for site in (pair.a, pair.b):
            site.wait_for_state("stopped", seconds=60)
            self.assertEqual(site.status()["vm"]["vcpu"], "stopped")
            codes = [event["code"] for event in control.call(site.socket, "events", limit=256)["events"]]
            self.assertIn("vm_stopped", codes)
            self.assertNotIn("vm_error", codes)
            self.assertNotIn("went_live", codes)
        self.assertIn("EXIT-SUCCESS", pair.a.console())
        for site in (pair.a, pair.b):
            self.assertEqual(site.process.stop(), 0)

    def test_disks_grow_and_are_added_at_the_next_boot(self):
        pair = self.protected_pair(guests.udp_echo())
        client = self.world.client(pair)
        client.wait_for_acknowledged(20)
        capacity = pair.a.console().rpartition("of=")[2].split()[0]
        self.act(pair.a, "shutdown")
        for site in (pair.a, pair.b):
            site.wait_for_state("stopped")
            self.assertEqual(site.process.stop(), 0)
            os.truncate(site.disk, 2 * os.path.getsize(site.disk))
            more = os.path.join(os.path.dirname(site.disk), "more.img")
            with open(more, "wb") as file:
                file.truncate(1 << 20)
            with open(os.path.join(site.config, "vm.json"), "r+", encoding="utf-8") as file:
                definition = json.load(file)
                definition["drives"].append({"drive_id": "more", "path_on_host": more})
                file.seek(0)
                json.dump(definition, file)
                file.truncate()
        before = client.acknowledged()
        pair.start(60)
        client.wait_for_acknowledged(before + 20)
        self.assertEqual(int(pair.primary().console().rpartition("of=")[2].split()[0]), 2 * int(capacity))
        for site in (pair.a, pair.b):
            self.assertEqual([disk["id"] for disk in site.status()["disks"]], ["data", "more"])
        survivor = pair.other(pair.primary())
        pair.primary().kill()
        survivor.wait_for_state("solo")
        before = client.acknowledged()
        client.wait_for_acknowledged(before + 20)
        client.stop()
        world.assert_nothing_lost(self, survivor, [client])

    def test_a_guest_that_never_exits_can_be_reset(self):
        pair = self.protected_pair(guests.compute())
        before = pair.a.console().count("units")
        self.act(pair.a, "reset")
        self.act(pair.a, "pause")
        wait.until("both stand", lambda: all(site.status()["vm"]["vcpu"] == "paused" for site in (pair.a, pair.b)), 20)
        self.act(pair.a, "resume")
        wait.until("it computes on", lambda: pair.a.console().count("units") > before, 30)

    def test_linux_takes_keys_and_resets(self):
        guest = guests.linux()
        if guest is None:
            self.skipTest("the Linux guest is not built (tests/guests/linux/build)")
        pair = self.protected_pair(guest)
        client = self.world.client(pair, transport="udp")
        client.wait_for_acknowledged(20)
        self.act(pair.a, "console_input", text="hello\n")
        with self.assertRaises(control.Refused):
            self.act(pair.a, "sysrq", text="two")
        self.act(pair.a, "sysrq", text="h")  # a break is nothing to this kernel, and harms nothing
        self.assert_follows(pair)
        self.act(pair.a, "nmi")
        wait.until("the guest has seen it", lambda: "NMI received" in pair.a.console(), 20)
        self.assert_follows(pair)
        self.act(pair.a, "reset")
        wait.until("it boots again", lambda: pair.a.console().count(guest.ready) >= 2, 60)
        before = client.acknowledged()
        client.wait_for_acknowledged(before + 20)
        self.assert_follows(pair)
        client.stop()


class OperateInCheckpointMode(Operate):
    """The same acts, at checkpoints."""

    ECHO = staticmethod(guests.smp_echo)
    RESET = (guests.smp_echo,)
    # Of lockstep, or of the disks' definition.
    test_disks_grow_and_are_added_at_the_next_boot = None
    test_a_guest_that_never_exits_can_be_reset = None
    test_linux_takes_keys_and_resets = None


if __name__ == "__main__":
    case.main()
