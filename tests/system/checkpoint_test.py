#!/usr/bin/env python3
"""A VM with two vCPUs, protected by checkpoints: it outlives kill -9 of its primary, nothing that a client saw acknowledged is
missing, redundancy comes back, roles change. ANTIPODE_FAILOVERS sets how many (6), ANTIPODE_SEED the moments."""

import os
import random
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import case, control, guests, requirements, wait, world  # noqa: E402  pylint: disable=wrong-import-position
from lib.world_case import WorldCase  # noqa: E402  pylint: disable=wrong-import-position

requirements.require(requirements.missing_for_namespaces(), requirements.missing_for_guests())
COUNT = int(os.environ.get("ANTIPODE_FAILOVERS", "6"))
SWITCHOVERS = int(os.environ.get("ANTIPODE_SWITCHOVERS", "4"))
SEED = int(os.environ.get("ANTIPODE_SEED", str(random.SystemRandom().randrange(1 << 32))))


class CheckpointMode(WorldCase):
    def protected(self, guest, **options):
        pair = self.world.pair(guest, **options)
        pair.start()
        for site in (pair.a, pair.b):
            self.assertEqual(site.status()["vm"]["mode"], "checkpoint")
            self.assertEqual(site.status()["vm"]["vcpu_count"], guest.vcpus)
        wait.until("a checkpoint is taken", lambda: pair.a.status()["checkpoint"]["taken"] > 0)
        self.assertGreater(pair.a.status()["checkpoint"]["last_pause_seconds"], 0)
        self.assertIsNone(pair.b.status()["checkpoint"])
        return pair

    def fail_over(self, index, moment, window):
        pair = self.protected(guests.smp_echo(), name=f"vm{index}")

        def check(summary):
            self.assertEqual(summary["uptime_steps_back"], 0)
            self.assertNotIn("EXIT-FAILURE", pair.b.console())

        return self.kill_primary(index, pair, moment, window, check)

    def test_kill_at_random_moments(self):
        print(f"ANTIPODE_SEED={SEED}", flush=True)
        chance = random.Random(SEED)
        silences = [self.fail_over(index, chance.uniform(0, 1.5), chance.choice((1, 4, 16))) for index in range(COUNT)]
        print(f"{COUNT} failovers: longest silence median {sorted(silences)[COUNT // 2]} ms, worst {max(silences)} ms")

    def test_console_and_disk_go_on(self):
        """Both vCPUs count on behind the last checkpoint: each line follows the one before."""
        pair = self.protected(guests.smp_counter())
        last = pair.a.wait_for_console(pair.guest.ready)
        pair.a.kill()
        pair.b.wait_for_state("solo")
        pair.b.wait_for_console(last)
        length = len(pair.b.console())
        wait.until("the console goes on", lambda: len(pair.b.console()) > length + 300, 20)
        numbers = guests.counted_lines(pair.b.console())
        self.assertEqual(numbers, list(range(numbers[0], numbers[0] + len(numbers))))
        self.assertNotIn("EXIT-FAILURE", pair.b.console())

    def test_a_live_tsc_never_goes_back(self):
        """Over a failover, a seed, a switchover and a failover back; the guest looks at each value on both vCPUs."""
        pair = self.protected(guests.tsc())

        def goes_on(site):
            length = len(site.console())
            wait.until("the guest goes on", lambda: len(site.console()) > length + 300, 30)
            self.assertNotIn("EXIT-FAILURE", site.console())

        pair.a.wait_for_console(pair.guest.ready)
        pair.a.kill()
        pair.b.wait_for_state("solo")
        goes_on(pair.b)
        pair.a.start()
        pair.wait_until_protected(60)
        goes_on(pair.b)
        control.call(pair.b.socket, "switchover", confirm=pair.name, actor="test")
        pair.a.wait_for_state("primary")
        pair.wait_until_protected(60)
        goes_on(pair.a)
        pair.a.kill()
        pair.b.wait_for_state("solo")
        goes_on(pair.b)
        console = pair.b.console()
        numbers = guests.counted_lines(console)
        self.assertEqual(numbers, list(range(numbers[0], numbers[0] + len(numbers))))
        lines = [dict(word.split("=") for word in line.split() if "=" in word) for line in console.splitlines() if "second=" in line]
        values = [int(line["tsc"]) for line in lines]
        self.assertEqual(values, sorted(values))
        self.assertGreater(int(lines[-1]["second"]), int(lines[0]["second"]))

    def test_backup_dies_and_comes_back(self):
        """The primary wins, releases what it held, seeds what comes back, and that one takes over."""
        pair = self.protected(guests.smp_echo(), heartbeat_ms=60)
        client = self.world.client(pair, options=["--window", "4"])
        client.wait_for_acknowledged(20)
        for _ in range(2):
            old = pair.primary()
            other = pair.other(old)
            other.kill()
            before = client.acknowledged()
            old.wait_for_state("solo")
            client.wait_for_acknowledged(before + 20)
            other.start()
            pair.wait_until_protected(60)
            before = client.acknowledged()
            client.wait_for_acknowledged(before + 20)
            old.kill()
            other.wait_for_state("solo")
            client.wait_for_acknowledged(before + 40)
            old.start()
            pair.wait_until_protected(60)
        survivor = pair.primary()
        client.stop()
        pair.other(survivor).process.stop()
        acknowledged, duplicated = world.assert_nothing_lost(self, survivor, [client])
        print(f"2 losses of each side: acknowledged={acknowledged} lost=0 duplicated={duplicated}")

    def test_a_narrow_line_slows_the_guest(self):
        """It writes more than the line takes: it is slowed, not stopped, until the line is wide again."""
        guest = guests.compute()
        guest.mode = "checkpoint"
        guest.arguments = "antipode.every=20 antipode.pages=256"
        pair = self.protected(guest)
        throttle = lambda: pair.a.status()["execution"]["throttle_ratio"] or 0  # noqa: E731
        wait.until("it has the line that it needs", lambda: throttle() < 0.05, 60)
        self.world.wan.set("a<->b", delay_ms=5, rate_mbytes=3)
        wait.until("it is slowed", lambda: throttle() > 0.2, 60)
        lines = pair.a.console().count("units=")
        wait.until("it goes on", lambda: pair.a.console().count("units=") > lines, 60)
        lag = pair.a.status()["execution_lag"]["seconds"]
        self.assertEqual(pair.a.status()["protection"], "protected")
        self.world.wan.set("a<->b", delay_ms=5, rate_mbytes=125)
        wait.until("the time is given back", lambda: throttle() < 0.05, 60)
        print(f"at 3 MB/s: lag={lag:.2f} s", flush=True)

    def test_switchover(self):
        pair = self.protected(guests.smp_echo(), heartbeat_ms=100)
        client = self.world.client(pair, options=["--window", "4"])
        client.wait_for_acknowledged(20)
        for _ in range(SWITCHOVERS):
            old = pair.primary()
            new = pair.other(old)
            control.call(old.socket, "switchover", confirm=pair.name, actor="test")
            new.wait_for_state("primary")
            old.wait_for_state("backup")
            pair.wait_until_protected()
            before = client.acknowledged()
            client.wait_for_acknowledged(before + 20)
        client.stop()
        survivor = pair.primary()
        pair.other(survivor).process.stop()
        acknowledged, duplicated = world.assert_nothing_lost(self, survivor, [client])
        print(f"{SWITCHOVERS} switchovers: acknowledged={acknowledged} lost=0 duplicated={duplicated}")

    def test_linux(self):
        """A Linux with an open TCP connection, in checkpoint mode."""
        guest = guests.linux()
        if guest is None:
            self.skipTest("the Linux guest is not built (tests/guests/linux/build)")
        guest.mode = "checkpoint"
        pair = self.world.pair(guest)
        pair.start(seconds=60)
        client = self.world.client(pair, transport="tcp")
        client.wait_for_acknowledged(20, seconds=60)
        pair.a.kill()
        before = client.acknowledged()
        pair.b.wait_for_state("solo")
        client.wait_for_acknowledged(before + 20, seconds=60)
        code, summary = client.stop()
        self.assertEqual(code, 0, client.process.output())
        self.assertEqual(summary["connection"], "kept")
        acknowledged, duplicated = world.assert_nothing_lost(self, pair.b, [client])
        print(f"linux: acknowledged={acknowledged} lost=0 duplicated={duplicated} silence_ms={summary['longest_silence_ms']}")


if __name__ == "__main__":
    case.main()
