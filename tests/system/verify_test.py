#!/usr/bin/env python3
"""The disks of a protected VM are compared while it runs: what broke the backup's disk behind everybody's back is found, exactly
that, and put right when asked; a guest that writes makes nothing look different; a loss in the middle is a loss as any other."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import case, control, guests, requirements, wait  # noqa: E402  pylint: disable=wrong-import-position
from lib.world_case import WorldCase  # noqa: E402  pylint: disable=wrong-import-position

requirements.require(requirements.missing_for_namespaces(), requirements.missing_for_guests())
CHUNK = 64 << 10
DISK_BYTES = 64 * guests.MEBIBYTE
WRITTEN_BYTES = 2 * guests.MEBIBYTE  # what the guest writes, from the beginning of its disk on


def disk_writer():
    """Writes all the time, with four requests in flight: 512 blocks of 4096 bytes."""
    return guests.Guest("disk_writer", guests.bare_metal_image("disk_writer"), "antipode.blocks=512 antipode.every=4",
                        memory_mib=16, disk_bytes=DISK_BYTES, ready="disk_writer: round")


def flip(path, offset):
    with open(path, "r+b", buffering=0) as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0x40]))


def content(path):
    with open(path, "rb") as file:
        return file.read()


class Verify(WorldCase):
    def writing_pair(self, name, guest=None):
        return self.protected_pair(guest or disk_writer(), name=name)

    @staticmethod
    def act(site, method, **parameters):
        return control.call(site.socket, method, actor="test", confirm=site.pair.name, **parameters)

    def run_to_end(self, site, method, seconds=120, **parameters):
        """The status of a verify that has ended, and its operation."""
        number = self.act(site, method, **parameters)["operation"]

        def ended():
            operation = control.call(site.socket, "operation", operation=number)
            return operation if operation["state"] != "running" else None

        operation = wait.until(f"the {method} has ended", ended, seconds)
        verify = site.status()["verify"]
        self.assertEqual(verify["operation"], number)
        self.assertEqual(verify["state"], operation["state"])
        return verify, operation

    @staticmethod
    def open_places(verify):
        return sorted(finding["offset_bytes"] for finding in verify["findings"] if finding["equal_unix_ms"] is None)

    @staticmethod
    def alerts(site):
        return [alert for alert in site.status()["alerts"] if alert["code"] == "disk_mismatch"]

    def test_what_broke_the_backups_disk_is_found_and_repaired(self):
        pair = self.writing_pair("flips")
        verify, operation = self.run_to_end(pair.a, "verify")
        self.assertEqual((operation["state"], verify["mismatches"]), ("succeeded", 0), operation)
        self.assertEqual(verify["compared_bytes"], DISK_BYTES)
        self.assertIsNone(pair.b.status()["verify"])
        places = [WRITTEN_BYTES + 5 * CHUNK + 17, 20 * guests.MEBIBYTE, DISK_BYTES - 1]
        chunks = [place // CHUNK * CHUNK for place in places]
        for place in places:
            flip(pair.b.disk, place)
        # A report only: nothing is written.
        verify, operation = self.run_to_end(pair.a, "verify")
        self.assertEqual(operation["state"], "failed", operation)
        self.assertEqual(verify["mismatches"], len(places))
        self.assertEqual(self.open_places(verify), chunks)
        for site in (pair.a, pair.b):
            wait.until(f"{site.name} knows", lambda site=site: len(self.alerts(site)) == 1, 10)
            told = [event["text"] for event in site.events() if event["code"] == "disk_mismatch"]
            self.assertEqual(len(told), len(places), told)
            self.assertTrue(all("disk data at byte" in text for text in told), told)
            self.assertEqual(self.open_places(site.status()["verify"]), chunks)
        self.assertIn("antipode_disk_mismatches_total 3", control.call(pair.a.socket, "metrics"))
        # Known of, and found again: it is an alarm again.
        self.act(pair.a, "verify_acknowledge")
        self.assertEqual(self.alerts(pair.a), [])
        verify, _ = self.run_to_end(pair.a, "verify", disk="data")
        self.assertEqual((verify["mismatches"], verify["unresolved"]), (3, 3))
        verify, operation = self.run_to_end(pair.a, "resync")
        self.assertEqual(operation["state"], "succeeded", operation)
        self.assertEqual((verify["mismatches"], verify["repaired"], verify["unresolved"]), (3, 3, 0))
        self.assertEqual(self.open_places(verify), [])
        self.assertEqual(self.alerts(pair.a), [])
        wait.until("the backup's alert has ended", lambda: not self.alerts(pair.b), 10)
        verify, operation = self.run_to_end(pair.a, "verify")
        self.assertEqual((operation["state"], verify["mismatches"]), ("succeeded", 0), operation)
        self.assertEqual(pair.a.status()["protection"], "protected")
        self.assertEqual(pair.a.status()["digest"]["mismatches"], 0)
        # Where the guest stands, both have executed the same.
        self.act(pair.a, "pause")
        wait.until("the images are equal", lambda: content(pair.a.disk) == content(pair.b.disk), 20)
        verify, operation = self.run_to_end(pair.a, "verify")
        self.assertEqual((operation["state"], verify["mismatches"]), ("succeeded", 0), operation)

    def test_a_guest_that_writes_makes_nothing_look_different(self):
        guest = guests.Guest("disk_writer", guests.bare_metal_image("disk_writer"),
                             "antipode.blocks=512 antipode.depth=8 antipode.every=4 antipode.overlap=1", memory_mib=16,
                             disk_bytes=4 * guests.MEBIBYTE, ready="disk_writer: round")
        pair = self.writing_pair("load", guest)
        self.world.wan.set("a<->b", delay_ms=20)
        compared = 0
        for index in range(6):
            before = pair.a.status()["disks"][0]["written_bytes"]
            verify, operation = self.run_to_end(pair.a, "resync" if index % 2 else "verify")
            self.assertEqual((operation["state"], verify["mismatches"]), ("succeeded", 0), operation)
            self.assertGreater(pair.a.status()["disks"][0]["written_bytes"], before)
            compared += verify["compared_bytes"]
            print(f"load {index}: {operation['text']}", flush=True)
        self.assertEqual(compared, 6 * guest.disk_bytes)
        self.assertEqual(pair.a.status()["digest"]["mismatches"], 0)

    def test_where_it_cannot_be_done_it_is_refused(self):
        pair = self.world.pair(disk_writer(), name="refusals")
        pair.a.start()
        pair.b.start()
        pair.wait_until_protected(30)
        for site, parameters, reason in ((pair.b, {}, "compared from the primary"), (pair.a, {"disk": "sdz"}, "no drive 'sdz'")):
            with self.assertRaises(control.Refused) as caught:
                self.act(site, "verify", **parameters)
            self.assertIn(reason, caught.exception.message)
        self.assertIn("both sites are compared", self.act(pair.a, "verify", check=True)["consequence"])
        self.assertIsNone(pair.a.status()["verify"])
        number = self.act(pair.a, "verify")["operation"]
        with self.assertRaises(control.Refused) as caught:
            self.act(pair.a, "resync")
        self.assertIn("are being compared", caught.exception.message)
        self.act(pair.a, "cancel", operation=number)
        self.assertEqual(control.call(pair.a.socket, "operation", operation=number)["state"], "cancelled")
        verify, operation = self.run_to_end(pair.a, "verify")
        self.assertEqual((operation["state"], verify["mismatches"]), ("succeeded", 0), operation)
        pair.b.kill()
        pair.a.wait_for_state("solo")
        with self.assertRaises(control.Refused) as caught:
            self.act(pair.a, "verify")
        self.assertIn("no backup in step", caught.exception.message)

    def test_in_checkpoint_mode_it_is_refused(self):
        pair = self.world.pair(guests.smp_counter(), name="smp")
        pair.start()
        with self.assertRaises(control.Refused) as caught:
            self.act(pair.a, "verify")
        self.assertIn("checkpoint mode", caught.exception.message)
        self.assertEqual(caught.exception.code, "unsupported")

    def test_a_loss_in_the_middle_is_a_loss_as_any_other(self):
        for index, method in enumerate(("verify", "resync", "resync")):
            pair = self.writing_pair(f"lost{index}")
            self.world.wan.set("a<->b", delay_ms=20)
            for place in range(WRITTEN_BYTES, DISK_BYTES, 8 * CHUNK):
                flip(pair.b.disk, place)
            self.act(pair.a, method)
            wait.until("it is in its middle, and the backup has heard", lambda p=pair: p.a.status()["verify"]["mismatches"] > 6
                       and (p.b.status()["verify"] or {}).get("findings"), 60, interval=0.002)
            pair.a.kill()
            pair.b.wait_for_state("solo")
            length = len(pair.b.console())
            wait.until("the survivor goes on", lambda p=pair, n=length: len(p.b.console()) > n, 20)
            if method == "verify":  # else what it had heard of may have been put right by then
                self.assertTrue(self.alerts(pair.b))  # it knows what is wrong with its disk
            self.world.wan.set("a<->b", delay_ms=0)
            # Its site comes back as the backup, and is filled from the survivor: nothing differs any more.
            pair.a.start()
            pair.wait_until_protected(60)
            verify, operation = self.run_to_end(pair.b, "verify")
            self.assertEqual((operation["state"], verify["mismatches"]), ("succeeded", 0), operation)
            self.assertEqual(self.alerts(pair.b), [])
            pair.close()

    def test_a_switchover_ends_it_and_the_new_primary_can(self):
        pair = self.writing_pair("switch")
        number = self.act(pair.a, "verify")["operation"]
        self.act(pair.a, "switchover")
        pair.b.wait_for_state("primary")
        operation = control.call(pair.a.socket, "operation", operation=number)
        self.assertEqual(operation["state"], "failed", operation)
        pair.wait_until_protected(30)
        flip(pair.a.disk, WRITTEN_BYTES + CHUNK)
        verify, operation = self.run_to_end(pair.b, "resync")
        self.assertEqual(operation["state"], "succeeded", operation)
        self.assertEqual((verify["mismatches"], verify["repaired"]), (1, 1))

    def test_a_heal_in_between_puts_it_off(self):
        guest = guests.diverge("antipode.every=400")
        guest.disk_bytes = DISK_BYTES
        pair = self.world.pair(guest, name="heals", digest_interval_ms=500)
        pair.start()

        def begun():
            try:
                return self.act(pair.a, "verify")
            except control.Refused as refused:
                self.assertIn("put right", refused.message)
                return None

        number = wait.until("it begins between two heals", begun, 60)["operation"]

        def ended():
            operation = control.call(pair.a.socket, "operation", operation=number)
            return operation if operation["state"] != "running" else None

        operation = wait.until("it has ended", ended, 120)
        self.assertEqual(operation["state"], "succeeded", operation)
        heals = sum(1 for event in pair.b.events() if event["code"] == "digest_healed")
        print(f"{heals} heals: {operation['text']}", flush=True)


if __name__ == "__main__":
    case.main()
