#!/usr/bin/env python3
"""A replicated disk, served by nbdkit with our plugin at one site and held at the other: clients of the kind users have write
to it, either side is killed, and what both hold is compared with a model of what was written and answered."""

import os
import random
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import case, process, replicated_disk, requirements, wait  # noqa: E402  pylint: disable=wrong-import-position

requirements.require(replicated_disk.missing_tools())

SIZE = 64 << 20
BLOCK = 4096
ROUNDS = int(os.environ.get("ANTIPODE_ROUNDS", "6"))

# Runs inside nbdsh: writes numbered blocks, reports each answer on a line, until the file STOP is there or the server dies.
WRITER = """
import os, random, sys
seed, rounds = int(os.environ["SEED"]), int(os.environ["WRITES"])
rng = random.Random(seed)
try:
    for number in range(rounds):
        if os.path.exists(os.environ["STOP"]):
            break
        block = rng.randrange(int(os.environ["BLOCKS"]))
        stamp = (seed << 32) + number + 1
        print("w", block, stamp, flush=True)
        h.pwrite(stamp.to_bytes(8, "little") * 512, block * 4096)
        print("a", block, stamp, flush=True)
        if rng.random() < 0.1:
            h.flush()
            print("f", flush=True)
except nbd.Error as error:
    print("e", error, flush=True)
"""


def stamps(site):
    with open(site.image, "rb") as image:
        data = image.read()
    return [int.from_bytes(data[at:at + 8], "little") for at in range(0, SIZE, BLOCK)]


class ReplicatedDisk(case.Case):
    def setUp(self):
        super().setUp()
        self.pair = replicated_disk.Pair(self, self.folder, SIZE)
        self.a, self.b = self.pair.sites

    def started(self, *create):
        self.pair.create(*create)
        self.b.start(serve=False)
        self.a.start(serve=True)
        if create == ("--has-data",):
            self.a.command("promote")
        self.pair.wait_in_sync()

    def assert_equal_images(self):
        self.pair.wait_in_sync()
        for site in (self.a, self.b):
            self.assertEqual(site.process.stop(), 0, site.process.output())
        subprocess.run(["cmp", self.a.image, self.b.image], check=True)

    def test_full_sync_then_clients(self):
        with open(self.a.image, "r+b") as image:
            image.write(random.Random(1).randbytes(8 << 20))
        self.started("--has-data")
        source = self.path("source.img")
        with open(source, "wb") as file:
            file.write(random.Random(2).randbytes(16 << 20))
            file.truncate(SIZE)
        process.run(["nbdcopy", "--flush", source, self.a.uri])
        self.assertIn("identical", process.run(["qemu-img", "compare", "-f", "raw", "-F", "raw", source, self.a.uri]).stdout)
        process.run(["qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", source, self.a.uri])
        self.a.command("verify", "sda")
        wait.until("the verify has ended", lambda: self.a.has_event("verify-done"), seconds=60)
        self.assertEqual(self.a.disk()["verify_differences"], 0)
        self.assert_equal_images()
        subprocess.run(["cmp", self.a.image, source], check=True)

    def test_a_carried_copy_needs_only_what_was_written_since(self):
        with open(self.a.image, "r+b") as image:
            image.write(random.Random(4).randbytes(16 << 20))
        self.a.command("create", "--has-data")
        self.a.start(serve=True)
        self.a.command("promote")
        self.a.nbdsh("h.pwrite(b'before' * 4096, 0); h.flush()")
        names = self.a.command("carry").stdout.split()
        self.assertEqual([name.split("=")[0] for name in names], ["sda"])
        shutil.copyfile(self.a.image, self.b.image)
        self.a.nbdsh("for at in (1, 7, 200): h.pwrite(b'since' * 4096, at * 65536)\nh.flush()")
        refused = self.b.command("create", "--carried", "sdb=12", check=False)
        self.assertIn("not among the copies", refused.stderr)
        self.b.command("create", "--carried", *names)
        self.b.start(serve=False)
        self.pair.wait_in_sync()
        done = next(event["text"] for event in self.a.events() if event["event"] == "resync-done")
        self.assertTrue(done.startswith("3 blocks"), done)
        self.assertNotEqual(self.a.command("carry", check=False).returncode, 0)  # there is a peer now
        self.assert_equal_images()

    def test_data_is_compressed_on_the_line(self):
        for site in self.pair.sites:
            site.link_settings = 'compression = "always"'
            site.configure()
        text = b"".join(b"line %d of a log that repeats itself, as logs do\n" % number for number in range(200_000))
        with open(self.a.image, "r+b") as image:
            image.write(text)
            image.write(random.Random(3).randbytes(4 << 20))
        self.pair.create("--has-data")
        self.a.start(serve=True)
        self.a.command("promote")
        self.b.start(serve=False)
        self.pair.wait_in_sync()
        self.a.nbdsh(f"h.pwrite({text[:8192]!r}, 40 << 20); h.flush()")
        self.pair.wait_in_sync()
        line = self.a.status()["line"]
        self.assertTrue(line["compressing"])
        self.assertLess(line["sent_wire_bytes"], 0.6 * line["sent_bytes"])
        received = self.b.status()["line"]
        self.assertGreater(received["received_bytes"], received["received_wire_bytes"])
        self.assert_equal_images()

    def test_verify_finds_and_mends(self):
        self.started("--both-empty")
        with open(self.b.image, "r+b") as image:
            image.seek(5 << 20)
            image.write(b"rot")
        sender = self.a if self.a.status()["sending"] else self.b
        sender.command("verify", "sda")
        wait.until("the difference was found", lambda: sender.disk()["verify_differences"] == 1, seconds=60)
        self.assert_equal_images()

    def test_split_brain_asks_and_is_resolved(self):
        self.started("--both-empty")
        for site in (self.a, self.b):
            site.command("disconnect")
        for site, byte in ((self.a, b"a"), (self.b, b"b")):
            site.process.stop()
            site.start(serve=True)
            site.command("disconnect")
            site.command("promote")
            site.nbdsh(f"h.pwrite({byte!r} * 65536, 0); h.flush()")
        for site in (self.a, self.b):
            site.command("connect")
        wait.until("the split brain is seen", lambda: "split-brain" in self.a.status()["link_reason"], seconds=30)
        preview = self.a.command("resolve", "--preview").stdout
        self.assertIn("if this site wins: 1 blocks of 64 KiB are lost, written since", preview)
        self.assertIn("if the peer wins:  1 blocks of 64 KiB are lost, written since", preview)
        self.b.command("resolve", "--discard-local")
        self.pair.wait_in_sync()
        self.assert_equal_images()
        with open(self.b.image, "rb") as image:
            self.assertEqual(image.read(1), b"a")
        kept = [os.path.join(self.b.folder, name) for name in os.listdir(self.b.folder) if ".undo." in name]
        self.assertEqual(len(kept), 1, "the loser's blocks were not kept")
        exported = self.path("lost.img")
        said = self.b.command("undo-export", "sda", kept[0], exported).stdout
        self.assertTrue(said.startswith("1 blocks of generation "), said)
        with open(exported, "rb") as image:
            self.assertEqual(image.read(), b"b" * 65536 + bytes(SIZE - 65536))
        self.assertLess(os.stat(exported).st_blocks * 512, SIZE // 2)
        self.assertIn("exists", self.b.command("undo-export", "sda", kept[0], exported, check=False).stderr)
        self.b.start(serve=False)
        listed = self.b.disk()["kept_undo"]
        self.assertEqual([item["file"] for item in listed], kept)
        self.assertIn(kept[0], self.b.command("status").stdout)
        os.unlink(kept[0])
        self.assertEqual(self.b.disk()["kept_undo"], [])

    def test_what_a_promoted_site_answers_first_is_at_the_peer(self):
        """A promotion keeps the connection: killed right after its first answered write, a site has lost nothing."""
        self.started("--both-empty")
        primary, peer = self.a, self.b
        for number in range(1, ROUNDS + 1):
            seen = {site: len(site.events()) for site in self.pair.sites}
            writer = subprocess.Popen(
                [*replicated_disk.NBDSH, "-u", primary.uri, "-c", f"h.pwrite(bytes([{number}]) * 4096, {number} << 16)\n"
                 "print('answered', flush=True)\nimport time\ntime.sleep(60)"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            self.assertEqual(writer.stdout.readline(), "answered\n")  # the client promoted the site
            parted = [event["text"] for site in self.pair.sites for event in site.events()[seen[site]:]
                      if event["event"] == "link" and "disconnected" in event["text"]]
            primary.process.kill()
            writer.kill()
            writer.communicate()
            self.assertEqual(parted, [])
            peer.command("promote")
            with open(peer.image, "rb") as image:
                image.seek(number << 16)
                self.assertEqual(image.read(4096), bytes([number]) * 4096, f"round {number}")
            peer.process.stop()
            primary.start(serve=False)
            peer.start(serve=True)
            self.pair.wait_in_sync()
            primary, peer = peer, primary
        self.assert_equal_images()

    def test_a_planned_move_keeps_the_connection(self):
        self.started("--both-empty")
        seen = {site: len(site.events()) for site in self.pair.sites}
        for site in (self.a, self.b, self.a):
            site.command("promote")
            wait.until(f"site {site.letter} is primary", lambda site=site: site.disk()["role"] == "primary")
            site.command("demote")
        texts = [event["text"] for site in self.pair.sites for event in site.events()[seen[site]:]]
        self.assertEqual([text for text in texts if "disconnected" in text], [])
        self.assertTrue([text for text in texts if "turned round" in text])
        self.assert_equal_images()

    def write_until_killed(self, seed):
        stop = self.path(f"stop{seed}")
        writer = process.Process("writer", [*replicated_disk.NBDSH, "-u", self.a.uri, "-c", WRITER], self.path(f"writer{seed}.log"),
                                 env={"SEED": str(seed), "WRITES": "100000", "BLOCKS": str(SIZE // BLOCK), "STOP": stop})

        def has_written(lines):
            wait.until(f"{lines} lines of the writer", lambda: len(writer.output().splitlines()) >= lines, seconds=60)

        rng = random.Random(seed)
        victims = rng.choice([(self.a,), (self.b,), (self.a, self.b)])
        has_written(rng.randrange(50, 400))
        for victim in victims:
            victim.process.kill()
        if self.a not in victims:
            has_written(len(writer.output().splitlines()) + 100)
            with open(stop, "wb"):
                pass
        writer.finished(seconds=60)
        return victims, writer.output().splitlines()

    def test_kill_9(self):
        """Every answered write is on both disks once they have met again (mode sync, and a kill loses no page cache), no block
        holds anything that was never written there, and the copies are equal."""
        self.started("--both-empty")
        model = {}  # block -> the stamps it may hold
        for seed in range(1, ROUNDS + 1):
            victims, lines = self.write_until_killed(seed)
            self.assertTrue(lines)
            for line in lines:
                words = line.split()
                if len(words) == 3 and words[0] == "w":
                    model.setdefault(int(words[1]), {0}).add(int(words[2]))
                elif len(words) == 3 and words[0] == "a":
                    model[int(words[1])] = {int(words[2])}
            for victim in victims:
                victim.start(serve=victim is self.a)
            self.pair.wait_in_sync()
            process.run(["nbdinfo", "--size", self.a.uri])  # a client: the site is primary again
            self.pair.wait_in_sync()
            for site in (self.a, self.b):
                held = stamps(site)
                for block, allowed in model.items():
                    self.assertIn(held[block], allowed, f"round {seed}, killed {[v.letter for v in victims]}: block {block} of site {site.letter}")
            for block, held in enumerate(stamps(self.a)):
                model[block] = {held}
        self.assert_equal_images()

    def test_what_is_said_to_be_empty_is_looked_at(self):
        with open(self.a.image, "r+b") as image:
            image.seek(5_000_123)
            image.write(b"x")
        refused = self.a.command("create", "--both-empty", check=False)
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn(f"{self.a.image} is not empty: its first byte that is not zero is at 5000123", refused.stderr)
        self.assertFalse(os.path.exists(f"{self.a.image}.antipode"))
        shutil.copyfile(self.a.image, self.b.image)
        self.started("--both-empty", "--unchecked")
        self.assert_equal_images()

    def test_bad_configuration_is_named(self):
        with open(self.a.config, "a", encoding="utf-8") as file:
            file.write('mirrors = 3\n')
        refused = self.a.command("create", check=False)
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn("group.toml:", refused.stderr)
        self.assertIn("mirrors", refused.stderr)


if __name__ == "__main__":
    case.main()
