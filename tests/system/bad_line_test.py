#!/usr/bin/env python3
"""Protected VMs on bad lines: loss and jitter, stalls, too little bandwidth, a long way, flapping, one direction gone.
A client never sees a wrong answer, nothing acknowledged is lost, memory does not grow, and as long as something comes
through, nobody takes over.

ANTIPODE_SECONDS sets how long each line is bad (4), ANTIPODE_SOAK_SECONDS how long the soak goes on (60). The long ones:
ANTIPODE_SECONDS=180 python3 tests/system/bad_line_test.py BadLine.test_flapping, for minutes;
ANTIPODE_SOAK_SECONDS=900 python3 tests/system/bad_line_test.py BadLine.test_soak"""

import os
import random
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import case, control, guests, paths, process, requirements, wait, world  # noqa: E402  pylint: disable=wrong-import-position
from lib.world_case import WorldCase  # noqa: E402  pylint: disable=wrong-import-position

requirements.require(requirements.missing_for_namespaces(), requirements.missing_for_guests())
SECONDS = float(os.environ.get("ANTIPODE_SECONDS", "4"))
SOAK_SECONDS = float(os.environ.get("ANTIPODE_SOAK_SECONDS", "60"))
SEED = int(os.environ.get("ANTIPODE_SEED", str(random.SystemRandom().randrange(1 << 32))))
MEBIBYTE = 1 << 20
# Beyond what a replicator holds when all is well, beside the log's own bound (below).
GROWTH_BYTES_MAX = 48 * MEBIBYTE
LOG_BUFFER_MIB = 8
DISCARD_PORT = 9
RUNS = ("primary", "solo", "pairing", "seeding")


def resident_bytes(pid):
    with open(f"/proc/{pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def counters(site):
    """Of a site's metrics, those without labels."""
    lines = [line.split() for line in control.call(site.socket, "metrics").splitlines()]
    return {line[0]: float(line[1]) for line in lines if len(line) == 2 and "{" not in line[0]}


class Watch:
    """What a pair did while its line was bad."""

    def __init__(self, test, pair):
        self.test = test
        self.pair = pair
        self.first = {letter: resident_bytes(site.process.pid) for letter, site in pair.sites.items()}
        self.peak = dict(self.first)
        self.states = set()
        self.epochs = set()
        self.lag_bytes_max = 0
        self.log_bytes = {}  # by site and process: recorded for the line, and sent once more
        self.now = {}        # the state of each site

    def look(self):
        running = []
        for letter, site in self.pair.sites.items():
            if not site.process.running():
                self.states.add("ended")
                self.now[letter] = None
                continue
            try:
                self.peak[letter] = max(self.peak[letter], resident_bytes(site.process.pid))
                status = site.status()
                seen = counters(site)
            except OSError:
                self.now[letter] = None  # it begins, or has ended just now
                continue
            self.now[letter] = status["state"]
            self.states.add(status["state"])
            self.epochs.add(status["epoch"])
            self.lag_bytes_max = max(self.lag_bytes_max, status["execution_lag"]["bytes"] or 0)
            if status["state"] in RUNS:
                running.append(letter)
            self.test.assertEqual(status["digest"]["mismatches"], 0)
            self.log_bytes[letter, site.process.pid] = (seen["antipode_log_bytes_total"], seen["antipode_log_repeated_bytes_total"])
        return running

    def for_seconds(self, seconds):
        """Looks again and again; this is the time under test, not a wait for something."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.look()
            time.sleep(0.1)

    def nobody_took_over(self):
        self.test.assertEqual(self.states, {"primary", "backup"})
        self.test.assertEqual(len(self.epochs), 1, "the epoch moved")

    def memory_is_bounded(self):
        for letter in self.first:
            grown = self.peak[letter] - self.first[letter]
            self.test.assertLess(grown, GROWTH_BYTES_MAX + 2 * LOG_BUFFER_MIB * MEBIBYTE, f"site {letter} grew")

    def log_went_once(self, share=0.2):
        """The session keeps what it was given: a break, or a long way, is no reason to give it all of the log again."""
        first, again = self.log_sums()
        self.test.assertLessEqual(again, share * first, f"{again:.0f} bytes of the log went twice, of {first:.0f}")

    def log_sums(self):
        return (sum(first for first, _ in self.log_bytes.values()), sum(again for _, again in self.log_bytes.values()))

    def text(self):
        first, again = self.log_sums()
        grown = max(self.peak[letter] - self.first[letter] for letter in self.first)
        return f"states {'/'.join(sorted(self.states))}, grew {grown / MEBIBYTE:.1f} MiB, log held {self.lag_bytes_max} bytes, " \
               f"{again:.0f} of its {first:.0f} bytes went twice"


class LineCase(WorldCase):
    """A pair on a line that becomes bad and good again, with a client that keeps asking its guest."""

    WORLD = {"seed": SEED}
    TRANSPORT = "udp"
    START_SECONDS = 30

    def guest(self):
        return guests.udp_echo()

    def begin(self, name, window=4):
        pair = self.world.pair(self.guest(), name=name, settings={"replay": f"log_buffer_mib = {LOG_BUFFER_MIB}"})
        pair.start(seconds=2 * self.START_SECONDS)
        client = self.world.client(pair, transport=self.TRANSPORT, options=["--window", str(window)])
        client.wait_for_acknowledged(20, seconds=2 * self.START_SECONDS)
        return pair, client, Watch(self, pair)

    def good_line(self):
        self.world.wan.heal("a<->b")
        self.world.wan.set("a<->b", delay_ms=5, jitter_ms=0, loss=0, stall_ms=0, rate_mbytes=125, reorder=0, duplicate=0, queue_ms=20,
                           tail_drop=0)

    def finish(self, pair, client, watch, what):
        """On a good line again: the client is answered, and the disk of who runs the VM has all it was told."""
        self.good_line()
        before = client.acknowledged()
        client.wait_for_acknowledged(before + 20, seconds=self.START_SECONDS)
        site = wait.until("somebody runs the VM", pair.primary, 20)
        code, summary = client.stop()
        self.assertEqual(code, 0, client.process.output())
        if self.TRANSPORT == "tcp":
            self.assertEqual(summary["connection"], "kept")
            self.assertEqual(summary["uptime_steps_back"], 0)
        watch.look()
        watch.memory_is_bounded()
        acknowledged, duplicated = world.assert_nothing_lost(self, site, [client])
        print(f"{what}: acknowledged={acknowledged} lost=0 duplicated={duplicated} silence_ms={summary['longest_silence_ms']}, {watch.text()}",
              flush=True)
        pair.close()

    def steady(self, name, window=4, **line):
        """A line that is bad, but on which something always comes through: no takeover."""
        pair, client, watch = self.begin(name, window)
        before = client.acknowledged()
        self.world.wan.set("a<->b", **line)
        watch.for_seconds(SECONDS)
        self.assertGreater(client.acknowledged(), before, "nothing came through")
        watch.nobody_took_over()
        self.finish(pair, client, watch, name)

    def flapping(self):
        """Cut for longer than the detector waits, again and again: whoever goes on, it is one, and nothing is lost. A site that
        has ended is started again, as systemd would, and the line stands until the pair is protected."""
        pair, client, watch = self.begin("flapping")
        chance = random.Random(SEED)
        cuts = 0
        end = time.monotonic() + 2 * SECONDS
        while time.monotonic() < end:
            self.world.wan.cut("a<->b", mode=chance.choice(("blackhole", "hold", "reset")))
            self._one_runs(watch, chance.uniform(0.1, 1.5))
            self.world.wan.heal("a<->b")
            self._one_runs(watch, chance.uniform(0.5, 1.5))
            cuts += 1
            self._protect_again(watch)
        watch.log_went_once()
        self.finish(pair, client, watch, f"flapping (ANTIPODE_SEED={SEED}): cuts={cuts} epochs={len(watch.epochs)}")

    def _protect_again(self, watch):
        """Who took over may still be asking for the VM when the line is whole again; who lost it joins again, or ends."""
        def settled():
            self._one_runs(watch, 0)
            if not all(site.process.running() for site in watch.pair.sites.values()):
                return "ended"
            return "paired" if set(watch.now.values()) == {"primary", "backup"} else None

        if wait.until("a site has ended, or both are a pair", settled, 60) == "paired":
            return
        for site in watch.pair.sites.values():
            if not site.process.running():
                site.start()
        watch.pair.wait_until_protected(60)

    def _one_runs(self, watch, seconds):
        end = time.monotonic() + seconds
        while True:
            running = watch.look()
            self.assertLessEqual(len([letter for letter in running if watch.now[letter] == "solo"]), 1, "both sites went on alone")
            if time.monotonic() >= end:
                return
            time.sleep(0.05)


class BadLine(LineCase):
    def test_loss_and_jitter(self):
        self.steady("loss-and-jitter", delay_ms=35, jitter_ms=30, loss=0.01)

    def test_stalls(self):
        self.steady("stalls", delay_ms=5, loss=0.01, stall_ms=300)

    def test_long_way(self):
        self.steady("long-way", window=16, delay_ms=75)

    def test_datagrams_out_of_order(self):
        self.steady("out-of-order", delay_ms=10, reorder=0.2, reorder_ms=15, duplicate=0.1)

    def flood(self, pair):
        """840,000 bytes a second that the guest discards, all of them log."""
        return self.owned(process.Process(
            "flood", ["python3", "-B", os.path.join(paths.ROOT, "tests", "system", "clients", "flood.py"), "--address",
                      f"{pair.guest_address}:{DISCARD_PORT}", "--bytes", "1400", "--rate", "600"],
            os.path.join(self.folder, "flood.log"), namespace=self.world.topology.name("client")))

    def test_connections_break(self):
        """Connections break under load, again and again, and are there again before anybody is missed: not a byte of the log
        is handed to the channel twice."""
        pair, client, watch = self.begin("breaks")
        flood = self.flood(pair)
        before = pair.a.status()["link"]["reconnects"]
        end = time.monotonic() + 2 * SECONDS
        while time.monotonic() < end:
            self.world.wan.break_connections()
            watch.for_seconds(0.5)
        flood.stop_code = flood.kill()
        self.assertGreater(pair.a.status()["link"]["reconnects"], before)
        watch.nobody_took_over()
        watch.log_went_once(share=0)
        self.finish(pair, client, watch, "breaks")

    def narrow(self, name, **line):
        """The guest is sent many times what the line carries: it is slowed, and what waits is bounded by the log's buffer."""
        pair, client, watch = self.begin(name, window=2)
        flood = self.flood(pair)
        before = {letter: site.status()["link"]["reconnects"] for letter, site in pair.sites.items()}
        self.world.wan.set("a<->b", **line)
        watch.for_seconds(2 * SECONDS)
        reconnects = {letter: site.status()["link"]["reconnects"] - before[letter] for letter, site in pair.sites.items()}
        flood.stop_code = flood.kill()
        print(f"{name}: reconnects={reconnects} datagrams_overflow="
              f"{self.world.wan.stats()['directions']['a->b']['datagrams_overflow']}", flush=True)
        watch.nobody_took_over()
        watch.log_went_once()
        self.assertLess(watch.lag_bytes_max, (LOG_BUFFER_MIB + 1) * MEBIBYTE)
        self.assertGreater(watch.lag_bytes_max, 100_000, "the line was not too narrow")
        self.finish(pair, client, watch, name)

    def test_too_little_bandwidth(self):
        self.narrow("narrow", rate_mbytes=0.2)

    def test_far_too_little_bandwidth(self):
        self.narrow("very-narrow", rate_mbytes=0.05)

    def test_no_room_for_a_heartbeat(self):
        """The log fills the line's queue, and hardly a heartbeat gets in: the log's pieces are signs of life enough."""
        self.narrow("no-room", rate_mbytes=0.2, tail_drop=1)

    def test_flapping(self):
        self.flapping()

    def test_one_direction_is_gone(self):
        for who in ("a->b", "b->a"):
            pair, client, watch = self.begin(f"only-{who[3]}-to-{who[0]}")
            self.world.wan.cut(who)
            wait.until("one site goes on alone", lambda: "solo" in watch.states or watch.look() is None, 20)
            self._one_runs(watch, 1)
            self.finish(pair, client, watch, f"{who} cut")

    def test_short_silences(self):
        """Both directions silent for less than the detector's least patience of 200 ms."""
        pair, client, watch = self.begin("short-silences")
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            self.world.wan.cut("a<->b", mode="hold")
            time.sleep(0.1)  # the silence itself
            self.world.wan.heal("a<->b")
            watch.for_seconds(0.3)
        watch.nobody_took_over()
        self.finish(pair, client, watch, "short silences")

    def test_soak(self):
        """Faults at random that leave something through, for a minute or as long as asked: memory does not grow."""
        print(f"ANTIPODE_SEED={SEED}", flush=True)
        pair, client, watch = self.begin("soak", window=8)
        script = self.path("soak.txt")
        with open(script, "w", encoding="utf-8") as file:
            file.write(SOAK_SCRIPT)
        self.world.wan.do(f"script {script}")
        before = client.acknowledged()
        watch.for_seconds(SOAK_SECONDS / 2)
        middle = dict(watch.peak)
        watch.for_seconds(SOAK_SECONDS / 2)
        self.assertGreater(client.acknowledged(), before)
        watch.nobody_took_over()
        for letter, peak in watch.peak.items():
            self.assertLess(peak - middle[letter], 16 * MEBIBYTE, f"site {letter} still grew in the second half")
        self.world.wan.do(f"script {self._empty_script()}")
        self.finish(pair, client, watch, f"soak of {SOAK_SECONDS:.0f} s")

    def _empty_script(self):
        path = self.path("empty.txt")
        with open(path, "w", encoding="utf-8") as file:
            file.write("wait 1ms\n")
        return path


class LinuxOnABadLine(LineCase):
    """The same with Linux, whose client holds one TCP connection: it is kept, and every answer is right."""

    TRANSPORT = "tcp"
    START_SECONDS = 60

    def guest(self):
        return guests.linux() or self.skipTest("the Linux guest is not built (tests/guests/linux/build)")

    def test_loss_and_jitter(self):
        self.steady("linux-loss-and-jitter", delay_ms=35, jitter_ms=30, loss=0.01)

    def test_stalls(self):
        self.steady("linux-stalls", delay_ms=5, loss=0.01, stall_ms=300)

    def test_flapping(self):
        self.flapping()


# Each fault by itself is one that the detector's defaults stand; connections break, and come back.
SOAK_SCRIPT = """
repeat {
    choose {
        set a<->b delay_ms=5..60 jitter_ms=0..5 loss=0
        set a<->b loss=0.001..0.02 stall_ms=50..300
        set a<->b delay_ms=20..40 jitter_ms=5..15 loss=0.005
        set a<->b rate_mbytes=2..125
        set a->b reorder=0.1 duplicate=0.05
        set b->a reorder=0.1 duplicate=0.05
        break all
        sequence {
            cut a<->b mode=hold
            wait 20ms..80ms
            heal a<->b
        }
    }
    wait 200ms..2s
}
"""


if __name__ == "__main__":
    case.main()
