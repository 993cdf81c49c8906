#!/usr/bin/env python3
# bench-targets: wan_link antipode-replicator antipode-ca antipode-tiebreaker antipode_guests
"""What protection costs: bytes of log, guest throughput, pauses, memory. Both sites, the line and the guests run on this
machine, so the replaying site takes a processor from the recording one.

    tests/bench/run engine [--seconds 8] [SECTION...]

Sections: ticks interrupts idle throughput deltas checkpoints delays seeding switchover live memory"""

import argparse
import contextlib
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "system"))
from lib import control, guests, paths, process, requirements, wait, world  # noqa: E402  pylint: disable=wrong-import-position

RTT_MS = 20
HEARTBEAT_MS = 100
DISK_WRITER_BYTES = 4096  # of one request of the guest
MODES = {"lockstep": "", "checkpoint": "_checkpoint"}  # and how their figures' names end
CHECKPOINT_METRICS = ("pages_total", "pages_unchanged_total", "bytes_total", "pause_seconds_sum")


def in_mode(guest, mode):
    guest.mode = None if mode == "lockstep" else mode
    return guest


class Bench:
    def __init__(self, folder, seconds):
        self.folder = folder
        self.seconds = seconds
        self.missed = 0
        self.world = world.World(folder, delay_ms=RTT_MS / 2)
        self.names = 0

    # ---- Saying ----

    def figure(self, name, value, unit, goal=None, good=None):
        text = f"{name} {value:.3g} {unit}" if value < 100 else f"{name} {value:.0f} {unit}"
        if goal:
            text += f" goal={goal} {'met' if good else 'MISSED'}"
            self.missed += not good
        print(text, flush=True)

    # ---- Having ----

    def pair(self, guest, **options):
        self.names += 1
        pair = self.world.pair(guest, name=f"vm{self.names}", heartbeat_ms=HEARTBEAT_MS, **options)
        pair.start(60)
        pair.a.wait_for_console(guest.ready)
        return pair

    def client(self, pair, *options):
        client = self.world.client(pair, options=list(options))
        client.wait_for_acknowledged(50)
        return client

    @staticmethod
    def metric(site, name, labels=""):
        total = 0.0
        for line in control.call(site.socket, "metrics").splitlines():
            if line.startswith(name) and (not labels or labels in line):
                total += float(line.rsplit(" ", 1)[1])
        return total

    def counts(self, site):
        status = site.status()
        log = next(each for each in status["link"]["classes"] if each["name"] == "log")
        return {
            "time": time.monotonic(),
            "log": log["sent_compressed_bytes"],
            "plain": log["sent_bytes"],
            "channel": status["link"]["sent_bytes"],
            "exits": self.metric(site, "antipode_exits_total"),
            "interrupts": self.metric(site, "antipode_interrupts_total"),
            "entries": self.metric(site, "antipode_log_entries_total"),
            "disk_bytes": self.metric(site, "antipode_disk_read_bytes_total") + self.metric(site, "antipode_disk_written_bytes_total"),
            "deltas": self.metric(site, "antipode_deltas_total"),
            "delta_pages": self.metric(site, "antipode_delta_pages_total"),
            "delta_pages_skipped": self.metric(site, "antipode_delta_pages_skipped_total"),
        }

    def over(self, site, seconds=None):
        """What was counted at a site in a while of steady running."""
        time.sleep(1)  # past the start
        before = self.counts(site)
        time.sleep(seconds or self.seconds)
        after = self.counts(site)
        return {name: after[name] - before[name] for name in before}

    # ---- Sections ----

    def ticks(self):
        pair = self.pair(guests.counter())
        seen = self.over(pair.a)
        per = seen["log"] / seen["interrupts"]
        self.figure("log_bytes_per_timer_tick", per, "bytes", "<=2", per <= 2)
        self.figure("channel_bytes_per_timer_tick", seen["channel"] / seen["interrupts"], "bytes with headers and acknowledgements")
        self.figure("log_entries_per_timer_tick", seen["entries"] / seen["interrupts"], "entries")
        pair.close()

    def interrupts(self):
        guest = guests.disk_writer()
        guest.arguments = guest.arguments.replace("antipode.every=4", "antipode.every=1024")  # a console's bytes are no interrupts
        pair = self.pair(guest)
        seen = self.over(pair.a)
        # An interrupt of a busy disk tells of many completions, and each of them is an event of its own in the log.
        completions = seen["disk_bytes"] / DISK_WRITER_BYTES
        per = seen["log"] / completions
        self.figure("log_bytes_per_disk_completion", per, "bytes", "<=12", per <= 12)
        self.figure("log_entries_per_disk_completion", seen["entries"] / completions, "entries")
        self.figure("disk_completions", completions / seen["time"], "/s")
        self.figure("disk_completions_per_interrupt", completions / seen["interrupts"], "completions")
        self.figure("channel_bytes_per_disk_completion", seen["channel"] / completions, "bytes with headers and acknowledgements")
        pair.close()
        pair = self.pair(guests.udp_echo())
        client = self.client(pair, "--window", "4")
        seen = self.over(pair.a)
        self.figure("log_bytes_per_interrupt_under_network_load", seen["log"] / seen["interrupts"], "bytes, frames included")
        client.stop()
        pair.close()

    def idle(self):
        guest = guests.linux()
        if guest is None:
            print("idle: skipped, the Linux guest is not built", flush=True)
            return
        pair = self.pair(guest)
        seen = self.over(pair.a, max(20, self.seconds))
        log = seen["log"] * 8 / 1000 / seen["time"]
        self.figure("idle_linux_log", log, "kbit/s", "<=20", log <= 20)
        self.figure("idle_linux_channel", seen["channel"] * 8 / 1000 / seen["time"], "kbit/s with headers and acknowledgements")
        self.figure("idle_linux_interrupts", seen["interrupts"] / seen["time"], "/s")
        pair.close()

    def throughput(self):
        """Lockstep, and beside it the same guests in checkpoint mode."""
        for mode in MODES:
            for build, name, pattern in ((guests.disk_writer, "disk", r"round=(\d+)"), (guests.counter, "timer", r"ticks=(\d+)"),
                                         (guests.compute, "compute", r"units=(\d+)")):
                self.console_throughput(in_mode(build(), mode), f"{name}_bound{MODES[mode]}", pattern)
            self.network_throughput(in_mode(guests.udp_echo(), mode), f"network_bound{MODES[mode]}")

    def console_throughput(self, guest, name, pattern):
        pair = self.pair(guest)
        rate, seen = self.rate(pair.a.console, pattern, pair.a)
        self.figure(f"log_of_{name}", seen["log"] * 8 / 1e6 / seen["time"], "Mbit/s")
        snapshot = self.snapshot(pair.a)
        pair.b.kill()
        pair.a.wait_for_state("solo")
        solo, _ = self.rate(pair.a.console, pattern)
        pair.close()
        with self.lone(pair, snapshot) as lone:
            alone, _ = self.rate(lone.output, pattern)
        self.throughput_figures(name, guest, rate, solo, alone)

    def throughput_figures(self, name, guest, protected, solo, alone):
        ratio = solo / alone
        goal = (None, None) if guest.mode else (">=0.98", ratio >= 0.98)
        self.figure(f"throughput_{name}_recorded_to_unprotected", ratio, "ratio", *goal)
        self.figure(f"throughput_{name}_protected_to_unprotected", protected / alone, "ratio, the backup on this machine too")

    def network_throughput(self, guest, name):
        pair = self.pair(guest)
        client = self.client(pair, "--window", "16")
        begin, before = client.acknowledged(), time.monotonic()
        seen = self.over(pair.a)
        protected = (client.acknowledged() - begin) / (time.monotonic() - before)
        self.figure(f"log_of_{name}", seen["log"] * 8 / 1e6 / seen["time"], "Mbit/s")
        snapshot = self.snapshot(pair.a)
        pair.b.kill()
        pair.a.wait_for_state("solo")
        solo = self.requests(client)
        client.stop()
        pair.close()
        with self.lone(pair, snapshot, "--network"):
            client = self.client(pair, "--window", "16")
            alone = self.requests(client)
            client.stop()
        self.figure(f"requests_{name}_protected", protected, f"/s with 16 out at {RTT_MS} ms of round trip")
        self.figure(f"requests_{name}_solo", solo, "/s with 16 out")
        self.figure(f"requests_{name}_unprotected", alone, "/s with 16 out")
        self.throughput_figures(name, guest, protected, solo, alone)

    def requests(self, client):
        """Answers a second."""
        time.sleep(1)  # past the start
        begin, before = client.acknowledged(), time.monotonic()
        time.sleep(self.seconds)
        return (client.acknowledged() - begin) / (time.monotonic() - before)

    def rate(self, console, pattern, site=None):
        """Progress a second as the console tells it, by its own first and last line of a while."""
        seen = None
        first, begin = self.progress(console, pattern, None)
        if site:
            seen = self.over(site)
        else:
            time.sleep(self.seconds)
        last, end = self.progress(console, pattern, first)
        return (last - first) / (end - begin), seen

    @staticmethod
    def progress(console, pattern, after):
        """(the next figure that the console shows, when)."""

        def newest():
            found = re.findall(pattern, console())
            return int(found[-1]) if found else None

        base = wait.until("progress", newest, 30)

        def moved():
            value = newest()
            return (value, time.monotonic()) if value != base else None

        value, when = wait.until("progress", moved, 30, interval=0.001)
        assert after is None or value > after
        return value, when

    def snapshot(self, site):
        done = process.run([paths.program("antipode-replicator"), "snapshot", site.config, "bench"], seconds=60)
        assert done.returncode == 0, done.stderr
        return os.path.join(site.state, "snapshots", "bench.snapshot")

    @contextlib.contextmanager
    def lone(self, pair, snapshot, *options):
        """The same VM, run from a snapshot: no log, no digests, no backup."""
        folder = os.path.join(pair.folder, "lone")
        os.makedirs(folder)
        definition = pair.vm_definition(pair.a)
        definition["drives"][0]["path_on_host"] = os.path.join(folder, "disk.img")
        with open(os.path.join(folder, "vm.json"), "w", encoding="utf-8") as file:
            json.dump(definition, file)
        lone = process.Process("lone", [paths.program("antipode-replicator"), "restore", snapshot, folder, *options],
                               os.path.join(folder, "lone.log"), namespace=self.world.topology.name("a"), stdin=subprocess.PIPE)
        try:
            yield lone
        finally:
            lone.stop()

    def deltas(self):
        """A guest that never exits: every interrupt is a delta."""
        for name, arguments in (("dense", "antipode.pages=64"), ("sparse", "antipode.pages=2048 antipode.words=1")):
            guest = guests.compute()
            guest.arguments = f"antipode.every=1000 antipode.exit=0 {arguments}"
            pair = self.pair(guest)
            seen = self.over(pair.a)
            deltas = max(1, seen["deltas"])
            self.figure(f"deltas_{name}", seen["deltas"] / seen["time"], "/s")
            self.figure(f"delta_{name}_pages", seen["delta_pages"] / deltas, "pages a delta")
            self.figure(f"delta_{name}_skipped", seen["delta_pages_skipped"] / deltas, "pages a delta that the backup had")
            self.figure(f"delta_{name}_plain", seen["plain"] / deltas, "bytes a delta before the channel's compression")
            self.figure(f"delta_{name}_wire", seen["log"] / deltas, "bytes a delta on the wire")
            pair.close()

    def checkpoints(self):
        """What each costs: two vCPUs that count, one that computes, one that answers, an idle Linux."""
        works = [(guests.smp_counter(), None), (guests.compute(), None), (guests.smp_echo(), ("--window", "4"))]
        if guests.linux():
            works.append((guests.linux(), None))
        for guest, load in works:
            pair = self.pair(in_mode(guest, "checkpoint"))
            client = self.client(pair, *load) if load else None
            before = {name: self.metric(pair.a, f"antipode_checkpoint_{name}") for name in CHECKPOINT_METRICS}
            taken = pair.a.status()["checkpoint"]["taken"]
            seen = self.over(pair.a)
            taken = pair.a.status()["checkpoint"]["taken"] - taken
            after = {name: self.metric(pair.a, f"antipode_checkpoint_{name}") for name in CHECKPOINT_METRICS}
            each = {name: (after[name] - before[name]) / taken for name in CHECKPOINT_METRICS}
            self.figure(f"checkpoints_{guest.name}", taken / (seen["time"] + 1), "/s")
            self.figure(f"checkpoint_{guest.name}_pages", each["pages_total"], "pages each")
            self.figure(f"checkpoint_{guest.name}_unchanged", each["pages_unchanged_total"], "pages each that the backup had")
            self.figure(f"checkpoint_{guest.name}_bytes", each["bytes_total"], "bytes each")
            self.figure(f"checkpoint_{guest.name}_pause", each["pause_seconds_sum"] * 1000, "ms each, the guest stands")
            self.figure(f"checkpoint_{guest.name}_log", seen["log"] * 8 / 1e6 / seen["time"], "Mbit/s")
            if client:
                client.stop()
            pair.close()

    def delays(self):
        """How long outputs wait and how far the backup is behind, against the line's round trip."""
        for rtt_ms in (2, 20, 50, 150):
            self.world.wan.set("a<->b", delay_ms=rtt_ms / 2, rate_mbytes=125)
            for mode, suffix in MODES.items():
                pair = self.pair(in_mode(guests.udp_echo(), mode))
                client = self.client(pair, "--window", "4")
                lags = []
                end = time.monotonic() + self.seconds
                while time.monotonic() < end:
                    lags.append(pair.a.status()["execution_lag"]["seconds"] or 0)
                    time.sleep(0.02)  # from sample to sample
                output = pair.a.status()["output"]
                at = f"at {rtt_ms} ms of round trip"
                self.figure(f"output_delay_p50{suffix}", output["delay_p50_seconds"] * 1000, f"ms {at}")
                self.figure(f"output_delay_p99{suffix}", output["delay_p99_seconds"] * 1000, f"ms {at}")
                self.figure(f"lag_p99{suffix}", statistics.quantiles(lags, n=100)[98] * 1000, f"ms {at}, of {len(lags)} samples")
                client.stop()
                pair.close()
        self.world.wan.set("a<->b", delay_ms=RTT_MS / 2, rate_mbytes=125)

    def event_pause(self, site, code):
        found = []
        for event in control.call(site.socket, "events", limit=256)["events"]:
            if event["code"] == code and "pause_ms=" in event["text"]:
                found.append(float(event["text"].split("pause_ms=")[1].split()[0]))
        return found

    def seeding(self):
        cases = [("idle", guests.counter(), None), ("network_load", guests.udp_echo(), ("--window", "4"))]
        if guests.linux():
            cases.append(("idle_linux", guests.linux(), None))
        for name, guest, load in cases:
            pair = self.pair(guest)
            client = self.client(pair, *load) if load else None
            for _ in range(3):
                pair.b.kill()
                pair.a.wait_for_state("solo")
                pair.b.start()
                pair.wait_until_protected(60)
            pauses = self.event_pause(pair.a, "seed_finished")
            worst = max(pauses)
            goal = (None, None) if load else ("<100", worst < 100)
            self.figure(f"seeding_pause_{name}", worst, f"ms, worst of {len(pauses)}", *goal)
            if client:
                client.stop()
            pair.close()

    def switchover(self):
        pair = self.pair(guests.udp_echo())
        client = self.client(pair, "--window", "4")
        for _ in range(10):
            pair.wait_until_protected(60)
            old = pair.primary()
            control.call(old.socket, "switchover", confirm=pair.name, actor="bench")
            pair.other(old).wait_for_state("primary")
            old.wait_for_state("backup")
        client.stop()
        pauses = self.event_pause(pair.a, "switchover_finished") + self.event_pause(pair.b, "switchover_finished")
        worst = max(pauses)
        self.figure("switchover_pause_median", statistics.median(pauses), f"ms at {RTT_MS} ms of round trip")
        self.figure("switchover_pause_worst", worst, f"ms, of {len(pauses)}", f"<{100 + RTT_MS}", worst < 100 + RTT_MS)
        pair.close()

    def live(self):
        """From the tiebreaker's answer until the VM runs, and from the kill until the client hears it."""
        times, silences = [], []
        for _ in range(5):
            pair = self.pair(guests.udp_echo())
            client = self.client(pair, "--window", "4")
            pair.a.kill()
            pair.b.wait_for_state("solo")
            before = client.acknowledged()
            client.wait_for_acknowledged(before + 20)
            events = {event["code"]: event for event in control.call(pair.b.socket, "events", limit=256)["events"]}
            changes = [event for event in control.call(pair.b.socket, "events", limit=256)["events"]
                       if event["code"] == "state_changed" and "-> going_live" in event["text"]]
            if changes:
                times.append(events["went_live"]["time_unix_ms"] - changes[-1]["time_unix_ms"])
            _, summary = client.stop()
            silences.append(summary["longest_silence_ms"])
            pair.close()
        if times:
            self.figure("go_live", max(times), f"ms, worst of {len(times)}", "<50", max(times) < 50)
        self.figure("failover_silence_median", statistics.median(silences), f"ms at {RTT_MS} ms of round trip, heartbeats every "
                    f"{HEARTBEAT_MS} ms")

    def memory(self):
        """What the process holds beside the guest's memory."""
        works = [(guest, mode) for mode in MODES for guest in filter(None, (guests.udp_echo(), guests.linux()))]
        for guest, mode in works:
            pair = self.pair(in_mode(guest, mode))
            client = self.client(pair)
            time.sleep(self.seconds)
            for site in (pair.a, pair.b):
                extra = own_memory(site.process.pid, guest.memory_mib << 20) / (1 << 20)
                role = "primary" if site is pair.a else "backup"
                self.figure(f"memory_{guest.name}_{role}{MODES[mode]}", extra, "MiB beside the guest's", "<32", extra < 32)
            client.stop()
            pair.close()


def own_memory(pid, guest_bytes):
    """Private memory of a process in bytes, without the mapping that is the guest's memory."""
    total, size, guest_seen = 0, 0, False
    with open(f"/proc/{pid}/smaps", encoding="utf-8") as file:
        for line in file:
            head = re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line)
            if head:
                size = int(head.group(2), 16) - int(head.group(1), 16)
                is_guest = size == guest_bytes and not guest_seen
                guest_seen |= is_guest
            elif line.startswith(("Private_Dirty:", "Private_Clean:")) and not is_guest:
                total += int(line.split()[1]) * 1024
    assert guest_seen, "the guest's memory was not found"
    return total


SECTIONS = ("ticks", "interrupts", "idle", "throughput", "deltas", "checkpoints", "delays", "seeding", "switchover", "live", "memory")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8, help="of each measurement")
    parser.add_argument("sections", nargs="*", help="all of them if none is named")
    options = parser.parse_args()
    requirements.require(requirements.missing_for_namespaces(), requirements.missing_for_guests())
    unknown = set(options.sections) - set(SECTIONS)
    if unknown:
        parser.error(f"no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    with tempfile.TemporaryDirectory(prefix="antipode-bench-") as folder:
        bench = Bench(folder, options.seconds)
        try:
            for section in options.sections or SECTIONS:
                getattr(bench, section)()
        finally:
            bench.world.close()
    return 1 if bench.missed else 0


if __name__ == "__main__":
    sys.exit(main())
