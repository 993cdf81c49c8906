#!/usr/bin/env python3
"""The package of the nbdkit plugin, installed in a clean Debian root: nbdkit finds the plugin by its name and serves a replicated
disk from there; the other site's copy is held by the package's `disksync attach`."""

import os
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import case, clean_root, process, replicated_disk, requirements, wait  # noqa: E402  pylint: disable=wrong-import-position

MORE = ["nbdkit"]
requirements.require(clean_root.missing(MORE), replicated_disk.missing_tools())
SIZE = 16 << 20


class PluginPackage(case.Case):
    def setUp(self):
        super().setUp()
        clean = clean_root.CleanRoot(self.path("root", "x")[:-2], MORE)
        self.root = clean.folder
        clean.install(clean_root.build_packages("plugin-test", kinds="DEB"), ["antipode-nbdkit-plugin"])

    def in_root(self, *argv):
        return process.run(["chroot", self.root, *argv], seconds=120)

    def start_in_root(self, name, *argv):
        return self.owned(process.Process(name, ["chroot", self.root, *argv], self.path(f"{name}.log")))

    def test_serves_from_a_clean_root(self):
        self.assertIn("name=antipode\n", self.in_root("nbdkit", "antipode", "--dump-plugin").stdout)
        pair = replicated_disk.Pair(self, os.path.join(self.root, "srv"), SIZE)
        for site in pair.sites:
            self.in_root("disksync", "create", f"/srv/{site.letter}/group.toml", "--both-empty")
        held = self.start_in_root("b", "disksync", "attach", "/srv/b/group.toml")
        served = self.start_in_root("a", "nbdkit", "--foreground", "-U", "/srv/a/nbd.sock", "antipode", "config=/srv/a/group.toml")
        pair.a.process, pair.b.process = served, held
        for site in pair.sites:
            wait.until(f"site {site.letter} answers", site.answers)
        pair.wait_in_sync()
        pair.a.nbdsh("h.pwrite(b'package' * 512, 0); h.flush()")
        pair.wait_in_sync()
        self.assertIn("UpToDate", self.in_root("disksync", "status", "/srv/a/group.toml").stdout)
        for daemon in (served, held):
            self.assertEqual(daemon.stop(30), 0, daemon.output())
        subprocess.run(["cmp", pair.a.image, pair.b.image], check=True)
        with open(pair.b.image, "rb") as image:
            self.assertEqual(image.read(7), b"package")

    def test_removal_leaves_the_disks(self):
        kept = os.path.join(self.root, "var/lib/antipode/disks")
        os.makedirs(kept)
        with open(os.path.join(kept, "sda.img"), "w", encoding="utf-8") as image:
            image.write("the last copy")
        self.in_root("dpkg", "--purge", "antipode-nbdkit-plugin")
        self.assertTrue(os.path.exists(os.path.join(kept, "sda.img")))


if __name__ == "__main__":
    case.main()
