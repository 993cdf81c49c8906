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


if __name__ == "__main__":
    case.main()
