#!/usr/bin/env python3
"""Snapshots of running VMs, to a file, at the primary and at the backup: the pair stays protected and in step, and a VM run from
the file goes on where it was, with its memory, its disk and what it had acknowledged."""

import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import case, control, guests, paths, process, requirements, wait, world  # noqa: E402  pylint: disable=wrong-import-position
from lib.world_case import WorldCase  # noqa: E402  pylint: disable=wrong-import-position

requirements.require(requirements.missing_for_namespaces(), requirements.missing_for_guests())

PROGRAM = paths.program("antipode-replicator")


class Snapshot(WorldCase):
    @staticmethod
    def run_command(*arguments):
        return process.run([PROGRAM, *arguments], check=False, seconds=120)

    def take(self, site, name):
        done = self.run_command("snapshot", site.config, name)
        self.assertEqual(done.returncode, 0, done.stderr)
        path = os.path.join(site.state, "snapshots", f"{name}.snapshot")
        self.assertIn(path, done.stdout)
        print(done.stdout.strip().replace(self.folder, ""), flush=True)
        return path

    def definition_for(self, site, name, **changes):
        """A directory with a vm.json like the site's, with a drive of its own."""
        folder = self.path(name, "vm.json")
        definition = site.pair.vm_definition(site)
        definition["drives"][0]["path_on_host"] = self.path(name, "disk.img")
        definition["machine-config"].update(changes)
        with open(folder, "w", encoding="utf-8") as file:
            json.dump(definition, file)
        return os.path.dirname(folder)

    def start_restored(self, path, folder, *options, letter="a"):
        restored = process.Process("restored", [PROGRAM, "restore", path, folder, *options], os.path.join(folder, "restored.log"),
                                   namespace=self.world.topology.name(letter), stdin=subprocess.PIPE)
        self.addCleanup(restored.discard)
        return restored

    def assert_in_step(self, pair):
        if pair.guest.mode == "checkpoint":
            before = pair.a.status()["checkpoint"]["acknowledged"]
            wait.until("checkpoints arrive", lambda: pair.a.status()["checkpoint"]["acknowledged"] > before + 2, 30)
            self.assertEqual(pair.a.status()["protection"], "protected")
            return
        before = pair.b.status()["digest"]["checked"]
        wait.until("digests are compared", lambda: pair.b.status()["digest"]["checked"] > before + 2, 30)
        self.assertEqual(pair.b.status()["digest"]["mismatches"], 0)
        self.assertEqual(pair.a.status()["protection"], "protected")

    def test_goes_on_from_either_site(self):
        for build in (guests.disk_writer, guests.counter, guests.compute):
            guest = build()
            pair = self.protected_pair(guest, name=guest.name.replace("_", "-"), seconds=60)
            for site in (pair.a, pair.b):
                path = self.take(site, "one")
                self.assert_in_step(pair)
                done = self.run_command("dump-snapshot", path)
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertIn(f"pair={pair.name} site={site.name}", done.stdout)
                self.assertIn("rip=", done.stdout)
                # The VM goes on: its console continues, and the disk writer finds what it wrote.
                word = guest.ready.split(":")[0] + ":"
                restored = self.start_restored(path, self.definition_for(site, f"{guest.name}-{site.letter}"))
                lines = lambda r=restored, w=word: r.output().count(w)  # noqa: E731
                wait.until("the restored VM prints", lambda: lines() >= 3, 40)
                self.assertNotIn("EXIT-FAILURE", restored.output())
                self.assertEqual(restored.stop(), 0, restored.output())
            done = self.run_command("snapshot", pair.a.config, "one")
            self.assertNotEqual(done.returncode, 0)
            self.assertIn("exists", done.stderr)
            pair.close()

    def test_in_checkpoint_mode(self):
        """At a checkpoint, at the primary and at the backup: both vCPUs of the copy count on from there."""
        guest = guests.smp_counter()
        pair = self.protected_pair(guest, seconds=60)
        for site in (pair.a, pair.b):
            seen = guests.counted_lines(pair.a.console())[-1]
            path = self.take(site, "one")
            self.assert_in_step(pair)
            done = self.run_command("dump-snapshot", path)
            self.assertEqual(done.returncode, 0, done.stderr)
            for words in ("snapshot: version=2", "checkpoint mode, 2 vCPUs", "vCPU 0:", "vCPU 1:", "apic_id=1", "I/O APIC", "8254"):
                self.assertIn(words, done.stdout)
            self.assertEqual(done.stdout.count("rip="), 2)
            done = self.run_command("restore", path, self.definition_for(site, f"lockstep-{site.letter}", mode="lockstep", vcpu_count=1))
            self.assertIn("mode is lockstep, the snapshot's is checkpoint", done.stderr)
            restored = self.start_restored(path, self.definition_for(site, f"smp-{site.letter}"))
            wait.until("the restored VM prints", lambda r=restored: len(guests.counted_lines(r.output())) >= 4, 40)
            lines = guests.counted_lines(restored.output())
            self.assertEqual(lines, list(range(lines[0], lines[0] + len(lines))))
            self.assertGreaterEqual(lines[0], seen)
            self.assertNotIn("EXIT-FAILURE", restored.output())
            self.assertEqual(restored.stop(), 0, restored.output())
        pair.a.kill()
        pair.b.wait_for_state("solo")
        length = len(pair.b.console())
        wait.until("the console goes on", lambda: len(pair.b.console()) > length + 200, 20)
        self.take(pair.b, "solo")  # of a VM that takes no checkpoints
        pair.close()

    def test_in_checkpoint_mode_under_load(self):
        pair = self.protected_pair(guests.smp_echo(), seconds=60)
        self.everything_acknowledged_is_in_snapshots(pair)

    def test_under_load_with_all_that_was_acknowledged(self):
        pair = self.protected_pair(guests.udp_echo(), seconds=60)
        self.everything_acknowledged_is_in_snapshots(pair)

    def everything_acknowledged_is_in_snapshots(self, pair):
        client = self.world.client(pair, options=["--window", "4"])
        client.wait_for_acknowledged(100)
        paths_of = [self.take(site, "load") for site in (pair.a, pair.b)]
        self.assert_in_step(pair)
        before = client.acknowledged()
        client.wait_for_acknowledged(before + 50)
        code, _ = client.stop()
        self.assertEqual(code, 0, client.process.output())
        acknowledged, _ = world.assert_nothing_lost(self, pair.a, [client])
        pair.close()
        for letter, path in zip("ab", paths_of):
            folder = self.definition_for(pair.sites[letter], f"load-{letter}")
            restored = self.start_restored(path, folder, "--network", letter=letter)
            later = self.world.client(pair, name=f"later-{letter}")
            later.wait_for_acknowledged(30)
            code, _ = later.stop()
            self.assertEqual(code, 0, later.process.output())
            self.assertEqual(restored.stop(), 0, restored.output())
            # What this VM acknowledged is on its disk, behind what the snapshot held.
            total, lost, _, sound, text = guests.check_ledger(os.path.join(folder, "disk.img"), [later.log])
            self.assertEqual(lost, 0, text)
            self.assertTrue(sound, text)
            self.assertGreater(total, 0)
        print(f"snapshots under load: acknowledged={acknowledged} lost=0", flush=True)

    def test_linux_goes_on(self):
        guest = guests.linux()
        if guest is None:
            self.skipTest("the Linux guest is not built (tests/guests/linux/build)")
        pair = self.protected_pair(guest, seconds=60)
        client = self.world.client(pair, transport="tcp")
        client.wait_for_acknowledged(20, seconds=60)
        path = self.take(pair.b, "linux")
        self.assert_in_step(pair)
        client.stop()
        pair.close()
        folder = self.definition_for(pair.b, "linux")
        restored = self.start_restored(path, folder, "--network", letter="b")
        later = self.world.client(pair, name="later", transport="tcp")
        later.wait_for_acknowledged(20, seconds=60)
        later.stop()
        self.assertEqual(restored.stop(), 0, restored.output())
        self.assertNotIn("Linux version", restored.output())  # it has not booted

    def test_what_is_refused(self):
        pair = self.protected_pair(guests.counter(), seconds=60)
        for name in ("", "../x", "a/b"):
            self.assertNotEqual(self.run_command("snapshot", pair.a.config, name).returncode, 0, name)
        path = self.take(pair.a, "whole")
        refused = self.definition_for(pair.a, "refused")
        with open(path, "rb") as file:
            whole = file.read()

        def fails(content, folder, *words):
            broken = self.path("broken.snapshot")
            with open(broken, "wb") as file:
                file.write(content)
            for command in (["restore", broken, folder, "--overwrite"], ["dump-snapshot", broken]):
                done = self.run_command(*command)
                self.assertEqual(done.returncode, 1, done.stdout)
                for word in words:
                    self.assertIn(word, done.stderr)

        cut = len(whole) * 2 // 3
        fails(whole[:cut], refused, f"cut off at offset {cut}", "broken.snapshot")
        middle = len(whole) // 2
        fails(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1:], refused, "checksum does not match", "at offset")
        fails(whole[:24] + b"\x09" + whole[25:], refused, "version is 9, this program reads 1")
        fails(b"{}", refused, "offset 0: this is no snapshot")
        done = self.run_command("restore", path, self.definition_for(pair.a, "larger", mem_size_mib=32))
        self.assertIn("mem_size_mib is 32, the snapshot's is 16", done.stderr)
        # A drive that exists is not overwritten unasked; the pair's own is in use.
        done = self.run_command("restore", path, refused)
        self.assertIn("exists, and would be overwritten", done.stderr)
        done = self.run_command("restore", path, pair.a.config, "--overwrite")
        self.assertEqual(done.returncode, 1, done.stdout)
        done = self.run_command("restore", path, refused, "--overwrite", "--disks-only")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assert_in_step(pair)
        with self.assertRaises(control.Refused):
            control.call(pair.a.socket, "snapshot", text="x y", actor="test")
        # A site that stops in the middle leaves nothing that looks like a snapshot.
        control.call(pair.a.socket, "snapshot", text="late", actor="test")
        pair.a.process.stop()
        left = sorted(os.listdir(os.path.join(pair.a.state, "snapshots")))
        self.assertIn(left, (["whole.snapshot"], ["late.snapshot", "whole.snapshot"]))


if __name__ == "__main__":
    case.main()
