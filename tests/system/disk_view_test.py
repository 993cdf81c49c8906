#!/usr/bin/env python3
"""A replica in the middle of a resync is used at its last consistent point: read over NBD by the programs that people have, and
gone on from when the source is lost."""

import json
import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import case, process, replicated_disk, requirements, wait  # noqa: E402  pylint: disable=wrong-import-position

requirements.require(replicated_disk.missing_tools("nbdinfo"))

MIB = 1 << 20
SIZE = 32 * MIB
DISKS = ("sda", "sdb")

# Opens a view, reads, waits for a line, and reads again.
READER = """
print("has read", len(h.pread(4096, 0)), flush=True)
input()
try:
    print("has read", len(h.pread(4096, 0)), flush=True)
except nbd.Error as error:
    print("failed", error.errno, flush=True)
"""

LISTING = """
h.set_opt_mode(True)
h.connect_unix({socket!r})
h.opt_list(lambda name, description: print(name, description))
"""


def nbdkit_version():
    return tuple(int(number) for number in process.run(["nbdkit", "--version"]).stdout.split()[1].split(".")[:2])


class Views(case.Case):
    def setUp(self):
        super().setUp()
        self.pair = replicated_disk.Pair(self, self.folder, SIZE, '[resync]\nrate_max_bytes = 2000000\nrate_min_bytes = 65536\n', disks=DISKS)
        self.a, self.b = self.pair.sites

    def serving(self):
        """Both sites are served by nbdkit, in sync and not empty; the first is primary."""
        self.pair.create("--both-empty")
        self.b.start(serve=True)
        self.a.start(serve=True)
        self.a.ask("promote")
        self.pair.wait_in_sync()
        self.fill(seed=1, mebibytes=20)
        self.pair.wait_in_sync()

    def fill(self, seed, mebibytes):
        for disk in DISKS:
            process.run([*replicated_disk.NBDSH, "-u", self.a.uri_of(disk), "-c",
                         f"import random\nr = random.Random({seed})\nfor i in range({mebibytes}): h.pwrite(r.randbytes(1 << 20), i << 20)\nh.flush()"],
                        seconds=60)

    def in_a_resync(self):
        """What the second site held before the resync that it is in the middle of, by disk."""
        self.serving()
        self.b.command("disconnect")
        wait.until("they are apart", lambda: self.a.status()["link"] != "connected")
        wait.until("nothing is on its way", lambda: self.point()["exists"])
        expected = {}
        for disk in DISKS:
            expected[disk] = self.path(f"{disk}.expected")
            shutil.copyfile(self.b.image_of(disk), expected[disk])
        self.fill(seed=2, mebibytes=24)
        self.b.command("connect")
        wait.until("some of it has come", lambda: self.b.disk()["undo_blocks"] > 40, seconds=60)
        return expected

    def point(self):
        return self.b.status()["consistent_point"]

    def view_of(self, disk, site=None):
        return f"nbd+unix:///{disk}@consistent?socket={(site or self.b).socket}"

    def refused(self, uri, site, *reasons):
        """It is not opened, and the log has the reason."""
        done = process.run(["nbdinfo", uri], check=False)
        self.assertNotEqual(done.returncode, 0)
        wait.until(f"the log has {reasons}", lambda: all(reason in site.process.output() for reason in reasons))

    def reader(self, name="reader"):
        started = self.owned(process.Process(name, [*replicated_disk.NBDSH, "-u", self.view_of("sda"), "-c", READER], self.path(f"{name}.log"),
                                             stdin=subprocess.PIPE))
        wait.until("it has read", lambda: "has read" in started.output(), seconds=30)
        return started

    def end_resync(self):
        self.a.ask("rate 0")
        self.pair.wait_in_sync(120)

    # ---- reading

    def test_a_view_in_a_slowed_resync(self):
        expected = self.in_a_resync()
        info = json.loads(process.run(["nbdinfo", "--json", self.view_of("sda")]).stdout)["exports"][0]
        self.assertTrue(info["is_read_only"])
        self.assertEqual(info["export-size"], SIZE)
        self.assertIn("consistent point", info["description"])
        listed = process.run([*replicated_disk.NBDSH, "-c", LISTING.format(socket=self.b.socket)]).stdout
        for disk in DISKS:
            self.assertIn(f"{disk}@consistent the last consistent point", listed)
        for disk in DISKS:
            copy = self.path(f"{disk}.copy")
            process.run(["nbdcopy", self.view_of(disk), copy], seconds=60)
            process.run(["cmp", copy, expected[disk]])
            converted = self.path(f"{disk}.qcow2")
            process.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", self.view_of(disk), converted], seconds=60)
            self.assertIn("identical", process.run(["qemu-img", "compare", "-f", "qcow2", "-F", "raw", converted, expected[disk]]).stdout)
        self.assertEqual(self.b.disk()["state"], "Inconsistent", "the resync was still under way")
        self.assertIn("consistent point: of 2", self.b.command("status").stdout)
        self.end_resync()
        with open(self.a.image, "rb") as one, open(self.b.image, "rb") as other:
            self.assertEqual(one.read(), other.read())

    def test_a_view_cannot_be_written(self):
        self.in_a_resync()
        done = process.run([*replicated_disk.NBDSH, "-u", self.view_of("sda"), "-c", "h.set_strict_mode(0); h.pwrite(b'x' * 512, 0)"], check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertNotEqual(process.run(["qemu-img", "bench", "-f", "raw", "-w", "-c", "1", self.view_of("sda")], check=False).returncode, 0)

    def test_a_view_ends_with_the_resync(self):
        self.in_a_resync()
        reader = self.reader()
        self.assertEqual(self.point()["views_open"], 1)
        self.assertEqual(self.b.disk()["views_open"], 1)
        self.end_resync()
        reader.stdin.write(b"\n")
        reader.stdin.flush()
        wait.until("it has read again", lambda: "failed" in reader.output(), seconds=30)
        self.assertIn("failed EIO", reader.output())
        self.assertIn("has passed", self.b.process.output())
        self.assertTrue(self.b.has_event("point"))
        self.assertEqual(reader.finished(30), 0)
        wait.until("it is closed", lambda: self.point()["views_open"] == 0)
        self.refused(self.view_of("sda"), self.b, "disk sda: no view of a consistent point", "follows the peer")
        # What stands still can be read: the point after that.
        self.b.command("disconnect")
        wait.until("it stands still", lambda: self.point()["exists"])
        process.run(["nbdcopy", self.view_of("sdb"), self.path("after")], seconds=60)
        process.run(["cmp", self.path("after"), self.a.image_of("sdb")])

    def test_clients_that_are_killed(self):
        self.in_a_resync()
        readers = [self.reader(f"reader{number}") for number in range(4)]
        self.assertEqual(self.point()["views_open"], len(readers))
        for reader in readers:
            reader.kill()
        wait.until("all are closed", lambda: self.point()["views_open"] == 0, seconds=30)
        self.reader("another")
        self.end_resync()

    def test_a_client_that_is_killed_while_it_reads(self):
        if nbdkit_version() < (1, 34):
            self.skipTest("nbdkit before 1.34 may abort when a client hangs up with commands under way")
        self.in_a_resync()
        copying = self.owned(process.Process("copy", ["nbdcopy", self.view_of("sda"), "null:"], self.path("copy.log")))
        wait.until("it has the view open", lambda: self.point()["views_open"] > 0 or not copying.running())
        copying.kill()
        wait.until("it is closed", lambda: self.point()["views_open"] == 0, seconds=30)
        self.end_resync()

    def test_where_there_is_no_view(self):
        with open(self.a.image, "r+b") as image:
            image.write(os.urandom(16 * MIB))
        self.pair.create("--has-data")
        self.b.start(serve=True)
        self.a.start(serve=True)
        self.a.command("promote")
        wait.until("the first full sync is under way", lambda: self.b.disk()["phase"] == "resync", seconds=30)
        self.refused(self.view_of("sda"), self.b, "disk sda: no view of a consistent point", "first full sync has not ended")
        self.assertIn("first full sync", self.point()["reason"])
        self.assertIn("consistent point: none", self.b.command("status").stdout)
        self.end_resync()
        self.refused(self.view_of("sda"), self.b, "disk sda: follows the peer")
        self.refused(self.view_of("sda", self.a), self.a, "this site is primary")
        self.refused(self.view_of("nonsense"), self.b, 'no disk "nonsense"')
        self.refused(f"nbd+unix:///sda@yesterday?socket={self.b.socket}", self.b, 'no disk "sda@yesterday"')
        self.assertEqual(self.b.disk()["role"], "secondary")

    # ---- going on from it

    def test_going_on_from_the_point_when_the_source_is_lost(self):
        expected = self.in_a_resync()
        self.assertIn("disconnect first", self.b.command("promote", "--at-point", "--confirm", "web1", check=False).stderr)
        served_by = self.b.process.pid
        self.a.process.kill()
        wait.until("the source is missed", lambda: self.b.status()["link"] == "disconnected", seconds=30)
        reader = self.reader()
        for confirmed in ((), ("--confirm", "web2")):
            preview = self.b.command("promote", "--at-point", *confirmed, check=False)
            self.assertNotEqual(preview.returncode, 0)
            self.assertIn("is given up", preview.stdout)
            self.assertRegex(preview.stdout, r"sda  Inconsistent .* \d+ blocks of 64 KiB")
            self.assertIn("--confirm web1", preview.stderr)
            self.assertEqual((self.b.disk()["role"], self.b.disk()["state"]), ("secondary", "Inconsistent"))
        self.b.command("promote", "--at-point", "--confirm", "web1")
        self.assertEqual((self.b.disk()["role"], self.b.disk()["state"]), ("primary", "UpToDate"))
        self.assertEqual(self.b.process.pid, served_by)
        for disk in DISKS:
            process.run(["nbdcopy", self.b.uri_of(disk), self.path("now")], seconds=60)
            process.run(["cmp", self.path("now"), expected[disk]])
        self.b.nbdsh("h.pwrite(b'on' * 32768, 0); h.flush()")
        reader.stdin.write(b"\n")
        reader.stdin.flush()
        wait.until("the view has ended", lambda: "failed EIO" in reader.output(), seconds=30)
        self.assertFalse(os.path.exists(f"{self.b.image}.antipode.undo"))
        # The old source comes back: it has what was given up, and an operator decides.
        self.a.start(serve=True)
        wait.until("the split brain is seen", lambda: "split-brain" in self.a.status()["link_reason"], seconds=60)
        self.a.command("resolve", "--discard-local")
        self.a.ask("rate 0")
        self.b.ask("rate 0")
        self.pair.wait_in_sync(120)
        for site in self.pair.sites:
            self.assertEqual(site.process.stop(30), 0, site.process.output())
        for disk in DISKS:
            process.run(["cmp", self.a.image_of(disk), self.b.image_of(disk)])


if __name__ == "__main__":
    case.main()
