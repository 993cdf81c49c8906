#!/usr/bin/env python3
"""A replicated disk, served by nbdkit with our plugin at one site and held at the other: clients of the kind users have write
to it, either side is killed, and what both hold is compared with a model of what was written and answered."""

import json
import os
import random
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import case, paths, process, requirements, wait  # noqa: E402  pylint: disable=wrong-import-position

requirements.require(*(f"{tool} is not installed" for tool in ("nbdkit", "nbdcopy", "nbdsh", "qemu-img") if not shutil.which(tool)))

PLUGIN = os.path.join(paths.build(), "bin", "nbdkit-antipode-plugin.so")
# Not whatever python3 comes first in the path: the module is the distribution's.
NBDSH = ["/usr/bin/python3", "-m", "nbd"]
SIZE = 64 << 20
BLOCK = 4096
ROUNDS = int(os.environ.get("ANTIPODE_ROUNDS", "6"))

# Runs inside nbdsh: writes numbered blocks, reports each answer on a line, until it is told to stop or the server dies.
WRITER = """
import os, random, sys
seed, rounds = int(os.environ["SEED"]), int(os.environ["WRITES"])
rng = random.Random(seed)
try:
    for number in range(rounds):
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


class Site:
    def __init__(self, test, letter, port, listens):
        self.test, self.letter = test, letter
        self.folder = test.path(letter)
        os.makedirs(self.folder)
        self.config = os.path.join(self.folder, "group.toml")
        self.image = os.path.join(self.folder, "sda.img")
        self.socket = os.path.join(self.folder, "nbd.sock")
        with open(self.image, "wb") as image:
            image.truncate(SIZE)
        other = "b" if letter == "a" else "a"
        line = f'listen = "127.0.0.1:{port}"' if listens else f'connect = "127.0.0.1:{port}"'
        with open(self.config, "w", encoding="utf-8") as file:
            file.write(f"""group = "web1"
control_socket = "control.sock"
[link]
peer = "site-{other}"
{line}
ca = "../ca/ca.pem"
certificate = "../site-{letter}.pem"
key = "../site-{letter}.key"
[replication]
mode = "sync"
[[disk]]
name = "sda"
store = "sda.img"
""")
        self.process = None
        self.starts = 0

    def command(self, name, *arguments, check=True):
        return process.run([paths.program("disksync"), name, self.config, *arguments], check=check)

    def start(self, serve):
        self.starts += 1
        if os.path.exists(self.socket):
            os.unlink(self.socket)
        argv = [paths.program("disksync"), "attach", self.config]
        if serve:
            argv = ["nbdkit", "--foreground", "--exit-with-parent", "-U", self.socket, PLUGIN, f"config={self.config}"]
        self.process = self.test.owned(process.Process(f"{self.letter}{self.starts}", argv, self.test.path(f"{self.letter}{self.starts}.log")))
        wait.until(f"site {self.letter} answers", lambda: self.status(check=False) is not None)

    def status(self, check=True):
        result = self.command("status", "--json", check=check)
        return json.loads(result.stdout) if result.returncode == 0 else None

    def disk(self):
        return self.status()["disks"][0]

    @property
    def uri(self):
        return f"nbd+unix:///sda?socket={self.socket}"

    def blocks(self):
        with open(self.image, "rb") as image:
            data = image.read()
        return [int.from_bytes(data[at:at + 8], "little") for at in range(0, SIZE, BLOCK)]


class ReplicatedDisk(case.Case):
    def setUp(self):
        super().setUp()
        authority = self.path("ca")
        process.run([paths.program("antipode-ca"), "init", "--directory", authority])
        for name in ("site-a", "site-b"):
            process.run([paths.program("antipode-ca"), "sign", "--directory", authority, "--web", name, "--host", "127.0.0.1", "--out", self.path(name)])
        port = 20000 + os.getpid() % 20000
        self.a, self.b = Site(self, "a", port, True), Site(self, "b", port, False)

    def in_sync(self):
        def settled():
            for site in (self.a, self.b):
                status = site.status(check=False)
                if status is None or status["link"] != "connected":
                    return False
                disk = status["disks"][0]
                if disk["state"] != "UpToDate" or disk["marked_blocks"] != 0 or disk["phase"] != "idle":
                    return False
            return True
        wait.until("both copies are up to date", settled, seconds=60)

    def started(self, *create):
        self.a.command("create", *create)
        self.b.command("create", *(create if "--both-empty" in create else ()))
        self.b.start(serve=False)
        self.a.start(serve=True)
        if create == ("--has-data",):
            self.a.command("promote")
        self.in_sync()

    def assert_equal_images(self):
        self.in_sync()
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
        wait.until("the verify has ended", lambda: any('"verify-done"' in line for line in self.a.command("events").stdout.splitlines()), seconds=60)
        self.assertEqual(self.a.disk()["verify_differences"], 0)
        self.assert_equal_images()
        subprocess.run(["cmp", self.a.image, source], check=True)

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
            process.run([*NBDSH, "-u", site.uri, "-c", f"h.pwrite({byte!r} * 65536, 0); h.flush()"])
        for site in (self.a, self.b):
            site.command("connect")
        wait.until("the split brain is seen", lambda: "split-brain" in self.a.status()["link_reason"], seconds=30)
        self.assertIn('"blocks_lost":', self.a.command("resolve", "--preview").stdout)
        self.b.command("resolve", "--discard-local")
        self.in_sync()
        self.assert_equal_images()
        with open(self.b.image, "rb") as image:
            self.assertEqual(image.read(1), b"a")
        self.assertTrue([name for name in os.listdir(self.b.folder) if ".undo." in name], "the loser's blocks were not kept")

    def write_until_killed(self, seed):
        writer = subprocess.Popen([*NBDSH, "-u", self.a.uri, "-c", WRITER], stdout=subprocess.PIPE, text=True,
                                  env={**os.environ, "SEED": str(seed), "WRITES": "100000", "BLOCKS": str(SIZE // BLOCK)})
        lines = []
        rng = random.Random(seed)
        victims = rng.choice([(self.a,), (self.b,), (self.a, self.b)])
        for _ in range(rng.randrange(50, 400)):
            lines.append(writer.stdout.readline())
        for victim in victims:
            victim.process.kill()
        if self.a not in victims:
            for _ in range(100):
                lines.append(writer.stdout.readline())
            writer.terminate()
        rest, _ = writer.communicate(timeout=60)
        return victims, lines + rest.splitlines()

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
            self.in_sync()
            process.run(["nbdinfo", "--size", self.a.uri])  # a client: the site is primary again
            self.in_sync()
            for site in (self.a, self.b):
                held = site.blocks()
                for block, allowed in model.items():
                    self.assertIn(held[block], allowed, f"round {seed}, killed {[v.letter for v in victims]}: block {block} of site {site.letter}")
            for block, held in enumerate(self.a.blocks()):
                model[block] = {held}
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
