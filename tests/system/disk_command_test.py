#!/usr/bin/env python3
"""What an operator can say to a group of replicated disks, each word in a running pair: sizes, states, pauses, schedules, parts of
a verify, policies. Each is refused where it must not be, with a reason."""

import json
import os
import random
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import case, process, replicated_disk, requirements, wait  # noqa: E402  pylint: disable=wrong-import-position

requirements.require(replicated_disk.missing_tools())

MIB = 1 << 20
BLOCK = 65536
SIZE = 32 * MIB


class DiskCommands(case.Case):
    def make(self, sections="", size=SIZE, disks=("sda",)):
        self.pair = replicated_disk.Pair(self, self.folder, size, sections, disks=disks)
        self.a, self.b = self.pair.sites

    def started(self, *create):
        self.pair.create(*create)
        self.b.start(serve=False)
        self.a.start(serve=True)
        self.a.ask("promote")

    def serving(self):
        """Both empty and in sync; the first site is primary."""
        self.started("--both-empty")
        self.pair.wait_in_sync()

    def fill(self, image, mebibytes, seed=1):
        with open(image, "r+b") as file:
            file.write(random.Random(seed).randbytes(mebibytes * MIB))

    def write(self, block, byte, site=None, check=True):
        return (site or self.a).nbdsh(f"h.pwrite({byte!r} * {BLOCK}, {block * BLOCK}); h.flush()", check=check)

    def read(self, site, block):
        with open(site.image, "rb") as image:
            image.seek(block * BLOCK)
            return image.read(1)

    def refused(self, site, line):
        try:
            site.ask(line)
        except replicated_disk.Refused as reason:
            return str(reason)
        self.fail(f"{line} was not refused")

    def metadata(self, site, disk="sda"):
        return json.loads(site.command("dump-metadata", disk).stdout)

    def assert_equal_at_end(self):
        self.pair.wait_in_sync(120)
        for site in self.pair.sites:
            self.assertEqual(site.process.stop(30), 0, site.process.output())
        for disk in self.a.disks:
            subprocess.run(["cmp", *(site.image_of(disk) for site in self.pair.sites)], check=True)

    # ---- undo

    def half_resynced(self):
        """The second site is in the middle of a resync of 400 blocks, and has ended there."""
        self.make('[resync]\nrate_max_bytes = 8000000\nrate_min_bytes = 65536\n')
        self.serving()
        self.b.process.stop(30)
        self.fill_through_nbd(25)
        self.b.start(serve=False)
        wait.until("some of it has come", lambda: self.b.disk().get("blocks_left", 400) < 250 and self.a.disk()["marked_blocks"] < 350, seconds=60)
        self.b.process.kill()
        self.assertEqual(self.metadata(self.b)["state"], "Inconsistent")
        self.assertEqual(self.a.ask("rate 0")["ok"], True)

    def fill_through_nbd(self, mebibytes):
        self.a.nbdsh(f"import random\nr = random.Random(5)\nfor i in range({mebibytes}): h.pwrite(r.randbytes(1 << 20), i << 20)\nh.flush()")

    def test_what_an_undo_put_back_is_sent_again(self):
        self.half_resynced()
        self.assertIn("blocks put back", self.b.command("undo").stdout)
        record = self.metadata(self.b)
        self.assertEqual(record["state"], "Outdated")
        self.assertGreater(record["marked_blocks"], 100)
        with open(self.b.image, "rb") as image:
            self.assertEqual(image.read().count(0), SIZE)
        self.b.start(serve=False)
        self.assert_equal_at_end()

    # ---- sizes

    def grow(self, site, size):
        with open(site.image, "r+b") as image:
            image.truncate(size)

    def test_resize(self):
        self.make()
        self.serving()
        self.assertIn("must not shrink", self.shrunk(self.b))
        for site in (self.b, self.a):  # as OPERATIONS says
            self.grow(site, 2 * SIZE)
            site.command("resize", "sda")
        self.pair.wait_in_sync()
        self.assertEqual([site.disk()["size_bytes"] for site in self.pair.sites], [2 * SIZE, 2 * SIZE])
        self.assertEqual(self.a.nbdsh("print(h.get_size())").stdout.strip(), str(2 * SIZE))
        self.write(SIZE // BLOCK + 5, b"n")
        self.a.command("resize", "sda")  # nothing has grown
        # The wrong way round: the peer is too small until its turn comes.
        self.grow(self.a, 3 * SIZE)
        self.a.command("resize", "sda")
        wait.until("the sites say why they are apart", lambda: "smaller" in self.a.status()["link_reason"], seconds=30)
        self.write(2 * SIZE // BLOCK + 5, b"m")
        self.grow(self.b, 3 * SIZE)
        self.b.command("resize", "sda")
        self.pair.wait_in_sync()
        for block, byte in ((SIZE // BLOCK + 5, b"n"), (2 * SIZE // BLOCK + 5, b"m")):
            self.assertEqual(self.read(self.b, block), byte)
        self.assert_equal_at_end()

    def shrunk(self, site):
        self.grow(site, SIZE // 2)
        reason = self.refused(site, "resize sda")
        self.grow(site, SIZE)
        return reason

    def test_what_is_no_disk_is_named(self):
        self.make()
        self.serving()
        for line in ("resize sdx", "verify sdx"):
            self.assertIn("no disk sdx", self.refused(self.a, line))
        for line in ("", "nonsense", "resize", "verify", "verify sda 5", "verify sda 5 x", "rate", "rate -1", "mode fast", "promote hard", "demote now"):
            self.assertTrue(self.refused(self.a, line), line)
        self.assertTrue(self.a.settled())

    # ---- states

    def test_invalidate(self):
        self.make()
        self.fill(self.a.image, 8)
        self.started("--has-data")
        self.pair.wait_in_sync()
        self.assertIn("primary", self.refused(self.a, "invalidate"))
        with open(self.b.image, "r+b") as image:
            image.write(bytes(MIB))  # nobody has noticed
        seen = len(self.b.events())
        self.b.command("invalidate")
        wait.until("a full resync has ended", lambda: self.b.has_event("resync-done", seen), seconds=60)
        self.assertTrue(any(event["event"] == "invalidated" for event in self.b.events()[seen:]))
        self.assert_equal_at_end()

    def test_outdate_and_the_promotion_of_what_is_outdated(self):
        self.make()
        self.serving()
        self.assertIn("primary", self.refused(self.a, "outdate"))
        self.b.command("outdate")
        self.assertEqual(self.b.disk()["state"], "Outdated")
        self.a.command("demote")
        self.assertIn("Outdated", self.refused(self.b, "promote"))
        self.assertEqual((self.b.disk()["role"], self.b.disk()["state"]), ("secondary", "Outdated"))
        self.b.command("promote", "--force")
        self.assertEqual((self.b.disk()["role"], self.b.disk()["state"]), ("primary", "UpToDate"))
        self.pair.wait_in_sync()
        # A meeting that finds both equal ends it as well.
        self.b.command("demote")
        self.a.command("outdate")
        self.a.command("disconnect")
        self.assertEqual(self.a.disk()["state"], "Outdated")
        self.a.command("connect")
        self.assert_equal_at_end()

    # ---- metadata

    def damage(self, site, *offsets):
        with open(f"{site.image}.antipode", "r+b") as file:
            for offset in offsets:
                file.seek(offset)
                file.write(b"damage")

    def test_check_and_repair(self):
        self.make()
        self.serving()
        self.write(3, b"1")
        self.assertIn("in use", self.a.command("check", check=False).stderr)
        for site in self.pair.sites:
            self.assertEqual(site.process.stop(30), 0)
        self.assertIn("metadata of 1 disks: good", self.a.command("check").stdout)
        self.damage(self.a, 40)  # one of two superblocks
        checked = self.a.command("check")
        self.assertIn("superblock copy 0", checked.stdout)
        self.assertIn("good", checked.stdout)
        self.damage(self.a, 65536 + 100, 65536 + 4096 + 100)  # both copies of the bitmap's page
        checked = self.a.command("check", check=False)
        self.assertNotEqual(checked.returncode, 0)
        self.assertIn("bitmap page 0: neither copy is valid", checked.stdout)
        self.assertIn("check --repair", checked.stderr)
        self.assertIn("written back", self.a.command("check", "--repair").stdout)
        checked = self.a.command("check")
        self.assertEqual(checked.stdout, "metadata of 1 disks: good\n")
        self.assertEqual(self.metadata(self.a)["marked_blocks"], SIZE // BLOCK)
        self.damage(self.a, 40, 4096 + 40)
        lost = self.a.command("check", "--repair", check=False)
        self.assertNotEqual(lost.returncode, 0)
        self.assertIn("sda.img.antipode", lost.stderr)
        # Nothing can be saved: it counts as a new copy.
        os.unlink(f"{self.a.image}.antipode")
        self.a.command("create")
        self.a.start(serve=True)
        self.b.start(serve=False)
        self.assert_equal_at_end()
        self.assertEqual(self.read(self.a, 3), b"1")

    # ---- resync

    def test_pause_and_resume(self):
        self.make()
        self.serving()
        self.b.process.stop(30)
        self.fill_through_nbd(8)
        self.a.command("pause")
        self.b.start(serve=False)
        wait.until("the resync stands", lambda: self.a.disk()["phase"] == "resync" and self.a.disk()["paused"])
        self.assertIn("paused at the side that sends", self.refused(self.b, "pause"))
        self.assertEqual(self.a.disk()["blocks_left"], 128)
        wait.until("the peer knows what is to come", lambda: (self.b.disk()["state"], self.b.disk().get("blocks_left")) == ("Inconsistent", 128))
        self.write(200, b"w")  # the guest goes on
        self.a.command("verify", "sda")
        self.a.command("resume")
        self.pair.wait_in_sync()
        wait.until("the verify went on too", lambda: self.a.has_event("verify-done"), seconds=30)
        self.assertEqual(self.a.disk()["verify_differences"], 0)
        self.assert_equal_at_end()

    def test_progress_at_the_side_that_receives(self):
        self.half_resynced()
        self.b.start(serve=False)
        self.assert_equal_at_end()

    def test_schedule(self):
        everyday = "mon-sun 00:00-24:00"
        self.make(f'[resync]\nrate_max_bytes = 3000000\nschedule = "{everyday} 2MB"\n')
        self.b.configure("[resync]\nrate_max_bytes = 3000000\n")
        self.serving()
        wait.until("the schedule counts", lambda: self.a.status()["resync_rate_max"] == 2_000_000)
        self.assertEqual(self.b.status()["resync_rate_max"], 3_000_000)
        self.a.command("rate", "1000000")
        self.assertEqual(self.a.status()["resync_rate_max"], 1_000_000)
        self.a.process.stop(30)
        # A day that is neither today nor near: no rule fits.
        other = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")[(time.localtime().tm_wday + 3) % 7]
        self.a.configure(f'[resync]\nrate_max_bytes = 3000000\nschedule = "{other} 00:00-24:00 2MB"\n')
        self.a.start(serve=True)
        wait.until("the rate without a rule", lambda: self.a.status()["resync_rate_max"] == 3_000_000)
        self.a.process.stop(30)
        self.a.configure('[resync]\nschedule = "never 2MB"\n')
        refused = self.a.command("status", check=False)
        self.assertIn("schedule", refused.stderr)

    # ---- verify

    def rot(self, *blocks):
        with open(self.b.image, "r+b") as image:
            for block in blocks:
                image.seek(block * BLOCK + 77)
                image.write(b"rot")

    def verified(self, *arguments):
        """The differences that a verify found."""
        seen = len(self.a.events())
        self.a.command("verify", "sda", *arguments)
        wait.until("the verify has ended", lambda: self.a.has_event("verify-done", seen), seconds=60)
        disk = self.a.disk()
        self.assertTrue(disk["verify_complete"])
        return disk["verify_differences"], disk["verify_blocks"]

    def test_verify_of_a_range(self):
        self.make()
        self.serving()
        self.rot(10, 300)
        self.assertEqual(self.verified("--first", "0", "--count", "10"), (0, 10))
        self.assertEqual(self.verified("--first", "10", "--count", "1"), (1, 1))
        self.assertEqual(self.verified("--count", "300"), (0, 300))
        self.assertEqual(self.verified("--first", "300"), (1, SIZE // BLOCK - 300))
        self.pair.wait_in_sync()
        self.assertEqual(self.verified(), (0, SIZE // BLOCK))
        self.assertIn(f"block {SIZE // BLOCK} of {SIZE // BLOCK}", self.refused(self.a, f"verify sda {SIZE // BLOCK} 1"))
        self.assertIn("at the side that sends", self.refused(self.b, "verify sda"))
        self.assert_equal_at_end()

    def test_verify_that_only_looks(self):
        self.make("[resync]\nverify_repairs = false\n")
        self.serving()
        self.rot(10)
        self.assertEqual(self.verified()[0], 1)
        findings = [event for event in self.a.events() if event["event"] == "finding"]
        self.assertEqual([(finding["block"], finding["repaired"]) for finding in findings], [(10, False)])
        self.assertEqual(self.verified()[0], 1)
        self.assertTrue(self.a.settled())
        self.a.command("resync")  # mends it
        wait.until("that has ended", lambda: self.a.has_event("resync-done") and self.a.settled(), seconds=60)
        self.assertEqual(self.verified()[0], 0)
        self.assert_equal_at_end()

    def test_a_verify_that_the_line_cuts_off_says_so(self):
        self.make("[resync]\nrate_max_bytes = 1000000\n", size=256 * MIB)
        self.serving()
        self.a.command("verify", "sda")
        wait.until("it is under way", lambda: self.a.disk()["phase"] == "verify")
        self.b.process.kill()
        ended = wait.until("it has ended", lambda: [event["text"] for event in self.a.events() if event["event"] == "verify-ended"])
        self.assertRegex(ended[0], r"^at block \d+ of 0 to 4096, 0 differences so far: ")
        disk = self.a.disk()
        self.assertFalse(disk["verify_complete"])
        self.assertIn("broken off", self.a.command("status").stdout)
        self.b.start(serve=False)
        self.assert_equal_at_end()

    # ---- policies

    def test_writes_wait_for_a_lost_peer_where_the_policy_says_so(self):
        self.make('[replication]\nmode = "sync"\npeer_lost = "wait"\n')
        self.serving()
        self.write(1, b"1")
        self.b.process.kill()
        wait.until("the peer is missed", lambda: self.a.status()["link"] == "disconnected")
        client = process.Process("client", [*replicated_disk.NBDSH, "-u", self.a.uri, "-c", f"h.pwrite(b'2' * {BLOCK}, {2 * BLOCK})"], self.path("client.log"))
        self.owned(client)
        wait.until("the write waits", lambda: self.a.status()["changes_in_flight"] > 0)
        self.assertEqual(self.read(self.a, 2), b"\0")
        self.assertTrue(client.running())
        self.b.start(serve=False)
        client.finished(seconds=60)
        self.assertEqual(client.exit_code(), 0, client.output())
        self.assertEqual((self.read(self.a, 2), self.read(self.b, 2)), (b"2", b"2"))
        self.assert_equal_at_end()


if __name__ == "__main__":
    case.main()
