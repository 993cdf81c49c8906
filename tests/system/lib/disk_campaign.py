"""Random workloads on a group of two replicated disks, and kills of either side or both at random instants: the rounds of
tests/system/disk_campaign. What each copy holds is judged by write_log.WriteLog."""

import json
import os
import random
import shutil
import subprocess
import threading

from . import paths, process, replicated_disk, violations, wait
from .write_log import Inconsistent, WriteLog

SIZE = 24 << 20
DISKS = ("sda", "sdb")
MODES = ("async", "semi-sync", "sync")
MISHAPS = ("kill", "kill in a resync", "failover")
SECTIONS = """[replication]
mode = "{mode}"
[resync]
rate_max_bytes = {rate}
[split_brain]
no_primary = "discard-zero-changes"
"""


class Round:
    """What happens in a round, drawn from the seed alone."""

    def __init__(self, seed, index):
        rng = random.Random(seed * 1_000_003 + index)
        self.mode = MODES[index % 3]
        self.mishap = MISHAPS[index // 3 % 3]
        self.victims = rng.choice(("primary", "secondary", "both"))
        if self.mishap == "failover":
            self.victims = "primary"
        self.writes_before = rng.randrange(20, 1500)
        self.writes_alone = rng.randrange(10, 600)
        self.into_resync = rng.random()
        self.depth = rng.choice((1, 4, 16, 64))
        self.load_seed = rng.randrange(1 << 31)

    def __str__(self):
        return (f"{self.mode}, {self.mishap}, {self.victims} killed after {self.writes_before} lines, depth {self.depth}"
                + (f", {self.writes_alone} lines alone" if self.mishap != "failover" else ""))


class Writer:
    """nbd_load record, its lines taken as they come."""

    def __init__(self, owner, site, number, plan):
        self.lines = []
        self._popen = subprocess.Popen(
            [paths.program("nbd_load"), "record", *(site.uri_of(disk) for disk in DISKS), "--depth", str(plan.depth), "--seed",
             str(plan.load_seed), "--first-number", str(number), "--operations", "1000000"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        owner.owned(self)
        self._thread = threading.Thread(target=self._take, daemon=True)
        self._thread.start()

    def _take(self):
        for line in self._popen.stdout:
            self.lines.append(line)

    def until(self, count):
        wait.until(f"{count} lines of the writer", lambda: len(self.lines) >= count or self._popen.poll() is not None, seconds=60)

    def end(self):
        """All lines, also those on their way: it stops when all that it has begun is answered. It is not killed: nbdkit before
        1.34 may abort when a client hangs up while answers are on their way (its release notes of 1.34)."""
        if self._popen.poll() is None:
            self._popen.terminate()
        self._popen.wait(60)
        self._thread.join()
        return self.lines

    def ended_by_itself(self):
        self._popen.wait(60)
        return self.end()

    def close(self):
        if self._popen.poll() is None:
            self._popen.kill()
        self._popen.wait()
        self._thread.join()
        self._popen.stdout.close()


class Campaign:
    """A pair that lives through all rounds."""

    def __init__(self, owner, folder):
        self.owner = owner
        self.pair = replicated_disk.Pair(owner, folder, SIZE, disks=DISKS)
        self.primary, self.secondary = self.pair.sites
        self.configure("sync", 0)
        self.pair.create("--both-empty")
        self.secondary.start(serve=False)
        self.primary.start(serve=True)
        self.pair.wait_in_sync()
        self.log = WriteLog()
        self.next_number = 1
        self.counts = {"prefixes": 0, "complete": 0, "undone": 0, "equal": 0, "lost_tail": 0}

    def configure(self, mode, rate):
        for site in self.pair.sites:
            site.configure(SECTIONS.format(mode=mode, rate=rate))

    # ---- what is looked at

    def images(self, site, folder=None):
        return [os.path.join(folder or site.folder, f"{disk}.img") for disk in DISKS]

    def states(self, site):
        return [json.loads(site.command("dump-metadata", disk).stdout) for disk in DISKS]

    def check_copy(self, site, complete):
        """A copy whose process is gone. `complete`: nothing that was answered may be missing."""
        records = self.states(site)
        if all(record["state"] != "Inconsistent" for record in records):
            held = self.log.held(self.images(site))
        else:
            held = self.undone(site)
            complete = False
            self.counts["undone"] += 1
        self.log.check_prefix(held)
        self.counts["prefixes"] += 1
        if complete:
            self.log.check_complete(held, f"site {site.letter}")
            self.counts["complete"] += 1
        self.counts["lost_tail"] += len(self.log.answered_and_lost(held))
        return held

    def undone(self, site):
        """In the middle of a resync: what it was before, on a copy of everything."""
        folder = site.folder + ".undone"
        shutil.copytree(site.folder, folder, ignore=shutil.ignore_patterns("*.sock"))
        try:
            process.run([paths.program("disksync"), "undo", os.path.join(folder, "group.toml")])
            return self.log.held(self.images(site, folder))
        finally:
            shutil.rmtree(folder)

    # ---- a round

    def play(self, plan):
        with violations.kept(Inconsistent):
            self._play(plan)

    def _play(self, plan):
        self.configure(plan.mode, 0)
        for site in self.pair.sites:
            site.ask(f"mode {plan.mode}")
            site.ask("rate 0")
        writer = Writer(self.owner, self.primary, self.next_number, plan)
        writer.until(plan.writes_before)
        if plan.mishap == "failover":
            self.failover(plan, writer)
        elif plan.mishap == "kill":
            self.kill(plan, writer)
        else:
            self.kill_in_resync(plan, writer)
        self.next_number = max(self.log.began) + 1
        self.pair.wait_in_sync()
        self.check_equal()

    def note(self, lines):
        for line in lines:
            if line.endswith("\n"):  # else it was cut off by the end
                self.log.note(line)

    def end_secondary(self):
        """Cleanly: it applies what it has received before it ends."""
        code = self.secondary.process.stop(30)
        if code != 0:
            raise AssertionError(f"site {self.secondary.letter} ended with {code}")

    def kill(self, plan, writer):
        together = plan.mode == "sync"
        if plan.victims != "secondary":
            self.primary.process.kill()
            if plan.victims == "both":
                self.secondary.process.kill()
            else:
                self.end_secondary()
                together = plan.mode != "async"
            self.note(writer.ended_by_itself())
        else:
            at = len(writer.lines)
            self.secondary.process.kill()
            together = False
            writer.until(at + plan.writes_alone)
            self.note(writer.end())
        self.check_copy(self.secondary, together)
        if plan.victims != "secondary":
            self.check_copy(self.primary, True)
            self.primary.start(serve=True)
        self.secondary.start(serve=False)

    def kill_in_resync(self, plan, writer):
        """The secondary comes back after a while, and what the plan says is killed while it catches up."""
        at = len(writer.lines)
        self.secondary.process.kill()
        writer.until(at + plan.writes_alone)
        self.configure(plan.mode, 8 << 20)
        self.primary.ask(f"rate {8 << 20}")
        self.secondary.start(serve=False)
        wait.until("the resync has begun", self.resync_under_way, seconds=30)
        at = len(writer.lines)
        writer.until(at + int(plan.into_resync * 500))
        if plan.victims != "secondary":
            self.primary.process.kill()
        if plan.victims != "primary":
            self.secondary.process.kill()
        else:
            self.end_secondary()
        self.note(writer.ended_by_itself() if plan.victims != "secondary" else writer.end())
        self.check_copy(self.secondary, False)
        if plan.victims != "secondary":
            self.check_copy(self.primary, True)
            self.configure(plan.mode, 0)
            self.primary.start(serve=True)
        self.primary.ask("rate 0")
        self.secondary.start(serve=False)

    def resync_under_way(self):
        disks = self.primary.status()["disks"]
        return any(disk["phase"] == "resync" for disk in disks) or self.primary.settled()

    def failover(self, plan, writer):
        """The primary dies; the other site is promoted, writes on its own, and the first comes back as its secondary. That the
        writer's first write promoted its site has not parted the two: they need no time to be together again."""
        self.primary.process.kill()
        self.note(writer.ended_by_itself())
        self.end_secondary()
        # It may be behind all the same, and catch up: a congested line is pulled ahead of.
        behind = any(record["state"] == "Inconsistent" for record in self.states(self.secondary))
        if behind:
            self.secondary.command("undo")
            self.counts["undone"] += 1
        held = self.check_copy(self.secondary, plan.mode != "async" and not behind)
        self.check_copy(self.primary, True)
        self.log.settle(held)
        self.primary, self.secondary = self.secondary, self.primary
        self.primary.start(serve=True)
        self.primary.ask("promote force")
        alone = Writer(self.owner, self.primary, max(self.log.began) + 1_000_000, plan)
        alone.until(plan.writes_alone)
        self.note(alone.end())
        self.secondary.start(serve=False)

    def check_equal(self):
        """In sync and quiet: both hold the same, and all that was answered."""
        for site in (self.primary, self.secondary):
            site.process.stop(30)
        for one, other in zip(self.images(self.primary), self.images(self.secondary)):
            if subprocess.run(["cmp", one, other], check=False).returncode != 0:
                raise Inconsistent(f"{one} and {other} differ after the resync")
        held = self.log.held(self.images(self.primary))
        self.log.check_complete(held, "after the resync")
        self.log.settle(held)
        self.counts["equal"] += 1
        self.secondary.start(serve=False)
        self.primary.start(serve=True)
        self.pair.wait_in_sync()
