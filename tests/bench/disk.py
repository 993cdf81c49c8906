#!/usr/bin/env python3
# bench-targets: wan_link nbd_load disksync nbdkit-antipode-plugin antipode-ca
"""The replicated disk beside its peers, in one run, on the same files: nbdcopy and qemu-img convert between two nbdkit servers.

    disk.py                        everything
    disk.py --only full_sync,...   of: full_sync wan resync checksum verify sync_write async_write
    disk.py --mib 1024             the size of the files

Everything is on loopback; over a line, on the line emulator. Figures are medians of the rounds. Exit code 1 when a goal is missed."""

import argparse
import json
import os
import random
import re
import socket
import statistics
import sys
import tempfile
import threading
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "system"))
from lib import paths, process, replicated_disk, requirements, wait  # noqa: E402  pylint: disable=wrong-import-position
from lib.wan import Wan  # noqa: E402  pylint: disable=wrong-import-position

MIB = 1 << 20
LINE = 125e6
BEYOND_RTT_MS = 0.3  # of each kind of write in mode sync: data, flush and answer share one round trip
ROUNDS = 3


class Bench:
    def __init__(self, folder, options):
        self.folder, self.options = folder, options
        self.size = options.mib * MIB
        self.owned_things = []
        self.missed = []
        self.source = os.path.join(folder, "source.img")
        self.make_source(self.source, self.size)

    # ---- what is measured with

    def make_source(self, path, size):
        """Half of it random, half a repeated piece; no holes and no zeroes."""
        rng = random.Random(7)
        piece = rng.randbytes(MIB)
        with open(path, "wb") as file:
            for index in range(size // MIB):
                file.write(rng.randbytes(MIB) if index % 2 == 0 else piece)
            file.flush()
            os.fsync(file.fileno())

    def owned(self, thing):
        self.owned_things.append(thing)
        return thing

    def end_all(self):
        while self.owned_things:
            thing = self.owned_things.pop()
            (thing.close if hasattr(thing, "close") else thing.discard)()

    def show(self, name, value, unit, goal=None, met=True):
        text = f"{name} {value:.2f} {unit}"
        if goal:
            text += f" goal={goal} {'met' if met else 'MISSED'}"
            if not met:
                self.missed.append(name)
        print(text, flush=True)

    def empty_file(self, name, size=None):
        path = os.path.join(self.folder, name)
        if os.path.exists(path):
            os.unlink(path)
        with open(path, "wb") as file:
            file.truncate(size or self.size)
        os.sync()
        return path

    def nbdkit(self, image, tcp):
        """Serves a file; its URI."""
        if tcp:
            port = replicated_disk.free_port()
            argv = ["nbdkit", "--foreground", "--exit-with-parent", "-i", "127.0.0.1", "-p", str(port), "file", image]
            server = self.owned(process.Process("nbdkit", argv, os.path.join(self.folder, "nbdkit.log")))
            wait.until("nbdkit listens", lambda: socket.create_connection(("127.0.0.1", port), timeout=1).close() is None)
            return server, f"nbd://127.0.0.1:{port}", port
        path = os.path.join(self.folder, f"{os.path.basename(image)}.{len(self.owned_things)}.sock")
        server = self.owned(process.Process(
            "nbdkit", ["nbdkit", "--foreground", "--exit-with-parent", "-U", path, "file", image], os.path.join(self.folder, "nbdkit.log")))
        wait.until("nbdkit listens", lambda: os.path.exists(path))
        return server, f"nbd+unix://?socket={path}", 0

    def copy(self, tool, tcp, size, source, through=None):
        """Bytes a second of a peer's copy; `through`: makes the target's URI lead over a line."""
        target = self.empty_file("peer.img", size)
        first, from_uri, _ = self.nbdkit(source, tcp)
        second, to_uri, port = self.nbdkit(target, tcp)
        if through:
            to_uri = f"nbd://127.0.0.1:{through(port)}"
        argv = {"nbdcopy": ["nbdcopy", "--flush", from_uri, to_uri],
                "qemu-img": ["qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", "-W", "-m", "16", from_uri, to_uri]}[tool]
        self.warm_up(size)
        began = time.monotonic()
        process.run(argv, seconds=300)
        took = time.monotonic() - began
        for server in (first, second):
            server.stop()
        return size / took

    def pair(self, size, source, sections, dial=None, serve=False):
        """Both sites with their processes, the link not up yet."""
        folder = tempfile.mkdtemp(dir=self.folder)
        pair = replicated_disk.Pair(self, folder, size, sections, dial)
        if source:
            os.unlink(pair.a.image)
            os.link(source, pair.a.image)
        return pair

    def warm_up(self, size):
        """Memory for the target's page cache that this machine has: a virtual one fetches a page that was free for long from its host
        at the first touch, which takes longer than any copy."""
        path = os.path.join(self.folder, "warm")
        with open(path, "wb") as file:
            for _ in range(size // MIB):
                file.write(bytes(MIB))
        os.unlink(path)

    # ---- ours

    def start_apart(self, pair, create, serve=False):
        pair.create(*create)
        pair.a.start(serve=serve)
        pair.a.ask("disconnect")
        pair.b.start(serve=False)
        pair.b.ask("disconnect")
        os.sync()

    def meet(self, pair):
        """Seconds from the order to connect until both are up to date, and samples of (seconds, bytes to go)."""
        samples = []
        self.warm_up(os.path.getsize(pair.a.image))
        pair.a.ask("connect")
        began = time.monotonic()
        pair.b.ask("connect")
        while True:
            status = pair.a.status()
            disk = status["disks"][0]
            now = time.monotonic() - began
            if disk["phase"] == "resync":
                samples.append((now, disk["blocks_left"] * 65536))
            elif status["link"] == "connected" and pair.b.settled() and pair.a.settled():
                return now, samples
            if now > 600:
                raise AssertionError(f"not in sync: {status}")
            time.sleep(0.01)

    def full_sync(self):
        """Local: full sync, durable at the target, against nbdcopy --flush and qemu-img on the same files."""
        rates = {}
        for _ in range(ROUNDS):
            for name, tool, tcp in (("nbdcopy_unix", "nbdcopy", False), ("nbdcopy_tcp", "nbdcopy", True),
                                    ("qemu_img_unix", "qemu-img", False), ("qemu_img_tcp", "qemu-img", True)):
                rates.setdefault(name, []).append(self.copy(tool, tcp, self.size, self.source) / 1e6)
            pair = self.pair(self.size, self.source, RESYNC)
            self.start_apart(pair, ("--has-data",))
            took, _ = self.meet(pair)
            rates.setdefault("ours", []).append(self.size / took / 1e6)
            self.end_pair(pair, self.source)
        middle = {name: statistics.median(values) for name, values in rates.items()}
        for name in ("nbdcopy_unix", "nbdcopy_tcp", "qemu_img_unix", "qemu_img_tcp"):
            self.show(f"full_sync_{name}", middle[name], "MB/s")
        self.show("full_sync_ours", middle["ours"], "MB/s")
        for name in ("nbdcopy_unix", "nbdcopy_tcp"):
            ratio = middle["ours"] / middle[name]
            self.show(f"full_sync_ours_to_{name}", ratio, "x", ">=1.0", ratio >= 1.0)

    def end_pair(self, pair, compare_with=None):
        for site in pair.sites:
            if site.process:
                site.process.stop(60)
        if compare_with:
            process.run(["cmp", compare_with, pair.b.image], seconds=120)
        for site in pair.sites:
            if os.path.exists(site.image):
                os.unlink(site.image)

    def line(self, rtt_ms, target_port=None):
        """A line; and a function that opens a way over it to a port."""
        wan = self.owned(Wan(None, os.path.join(self.folder, "wan.log"), log_level="warn"))
        wan.do(f"set a<->b delay_ms={rtt_ms / 2} rate_mbytes={LINE / 1e6}")

        def through(port):
            near = replicated_disk.free_port()
            wan.do(f"forward tcp b->a 127.0.0.1:{near} 127.0.0.1:{port}")
            return near

        return wan, through

    def over_line(self, rtt_ms, sections, size, source):
        """A pair whose second site dials over a line."""
        wan, through = self.line(rtt_ms)
        near = replicated_disk.free_port()
        pair = self.pair(size, source, sections, dial=near)
        wan.do(f"forward tcp b->a 127.0.0.1:{near} 127.0.0.1:{pair.port}")
        return wan, through, pair

    def wan(self):
        """Full sync over a line of 125 MB/s; the peers' figures are of a smaller file."""
        for rtt_ms in (1, 10, 50, 150):
            small = self.size // 4
            small_source = os.path.join(self.folder, "small.img")
            self.make_source(small_source, small)
            wan, through, pair = self.over_line(rtt_ms, RESYNC, self.size, self.source)
            rates = {tool: self.copy(tool, True, small, small_source, through) / 1e6 for tool in ("nbdcopy", "qemu-img")}
            self.start_apart(pair, ("--has-data",))
            took, samples = self.meet(pair)
            # Progress is told when it is durable, in steps: from one step to another.
            steps = [after for before, after in zip(samples, samples[1:]) if after[1] < before[1]]
            steady = [step for step in steps if 0.05 * self.size < step[1] < 0.95 * self.size]
            rate = (steady[0][1] - steady[-1][1]) / (steady[-1][0] - steady[0][0])
            for tool, value in rates.items():
                self.show(f"wan_{rtt_ms}_ms_{tool}", value, "MB/s")
            # Meeting (TLS, hellos, bitmaps, begin) and parting (the last flush, end, adopted) take ten round trips at most.
            limit = self.size / (0.97 * LINE) + 10 * rtt_ms / 1000
            self.show(f"wan_{rtt_ms}_ms_ours_whole", self.size / took / 1e6, "MB/s", f">={self.size / limit / 1e6:.2f}", took <= limit)
            self.show(f"wan_{rtt_ms}_ms_ours_of_the_line", rate / LINE, "x", ">=0.97", rate / LINE >= 0.97)
            self.end_pair(pair, self.source)
            wan.close()

    def resync(self):
        """1 % of the disk changed while the peer was away, over 50 ms."""
        wan, _, pair = self.over_line(50, RESYNC, self.size, self.source_copy())
        self.start_apart(pair, ("--has-data",), serve=True)
        full_seconds, _ = self.meet(pair)
        full_bytes = self.sent(pair.a)
        pair.a.ask("promote")
        pair.wait_in_sync()
        for site in pair.sites:
            site.ask("disconnect")
        wait.until("the link is down", lambda: pair.a.status()["link"] == "disconnected")
        blocks = self.size // 65536
        chosen = random.Random(3).sample(range(blocks), blocks // 100)
        pair.a.nbdsh(f"import os\nfor b in {chosen!r}: h.pwrite(os.urandom(65536), b * 65536)\nh.flush()")
        took, _ = self.meet(pair)
        part = self.sent(pair.a)
        self.show("resync_1_percent_bytes", 100 * part / full_bytes, "% of a full sync", "<2", part < 0.02 * full_bytes)
        limit = 0.02 * full_seconds + 1
        self.show("resync_1_percent_seconds", took, "s", f"<{limit:.2f}", took < limit)
        self.end_pair(pair)
        wan.close()

    def source_copy(self):
        path = os.path.join(self.folder, "copy.img")
        process.run(["cp", "--sparse=never", self.source, path], seconds=120)
        return path

    @staticmethod
    def sent(site):
        """Bytes that the last resync sent, from its event."""
        text = [event["text"] for event in site.events() if event["event"] == "resync-done"][-1]
        return int(re.search(r"(\d+) bytes sent", text)[1])

    def read_rate(self, path):
        began = time.monotonic()
        with open(path, "rb", buffering=0) as file:
            while file.read(MIB):
                pass
        return self.size / (time.monotonic() - began)

    def synced_pair(self):
        pair = self.pair(self.size, self.source, RESYNC)
        self.start_apart(pair, ("--has-data",))
        self.meet(pair)
        return pair

    def checksum(self):
        """A resync of everything between equal copies, against sending it."""
        pair = self.synced_pair()
        began = time.monotonic()
        pair.a.ask("resync")
        pair.wait_in_sync(300)
        took = time.monotonic() - began
        self.show("checksum_resync_of_equal_copies", self.size / took / 1e6, "MB/s")
        part = self.sent(pair.a) / self.size
        self.show("checksum_resync_sent", 100 * part, "% of the disk", "<2", part < 0.02)
        self.end_pair(pair)

    def verify(self):
        """Online verify of everything against reading the file once."""
        pair = self.synced_pair()
        raw = statistics.median(self.read_rate(pair.a.image) for _ in range(ROUNDS))
        seen = len(pair.a.events())
        began = time.monotonic()
        pair.a.ask("verify sda")
        wait.until("the verify has ended", lambda: pair.a.has_event("verify-done", seen), seconds=300)
        rate = self.size / (time.monotonic() - began)
        self.show("verify_raw_read_cached", raw / 1e6, "MB/s")
        self.show("verify_ours", rate / 1e6, "MB/s")
        self.show("verify_ours_to_raw", rate / raw, "x")
        self.end_pair(pair)

    def load(self, uri, *options):
        return json.loads(process.run([paths.program("nbd_load"), "measure", uri, *options], seconds=120).stdout)

    def echo_ms(self, through):
        """The line's round trip for a frame of 4 KiB and a short answer, measured like ours: p50."""
        listener = socket.create_server(("127.0.0.1", 0))
        near = through(listener.getsockname()[1])
        client = socket.create_connection(("127.0.0.1", near), timeout=30)
        server, _ = listener.accept()
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def answer():
            try:
                while True:
                    got = 0
                    while got < 4200:
                        got += len(server.recv(4200 - got)) or 1 << 30
                    if got > 4200:
                        return
                    server.sendall(b"x" * 100)
            except OSError:
                pass

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        times = []
        for _ in range(30):
            began = time.perf_counter()
            client.sendall(b"x" * 4200)
            got = 0
            while got < 100:
                got += len(client.recv(100))
            times.append((time.perf_counter() - began) * 1000)
        client.close()
        return statistics.median(times)

    def sync_write(self):
        """A 4 KiB write in mode sync, and write-then-flush, against the line's own round trip."""
        size = 64 * MIB
        for rtt_ms in (1, 10, 50, 150):
            wan, through, pair = self.over_line(rtt_ms, '[replication]\nmode = "sync"\n', size, None)
            self.start_apart(pair, ("--both-empty",), serve=True)
            self.meet(pair)
            self.load(pair.a.uri, "--seconds", "1")
            pair.wait_in_sync()
            rtt = self.echo_ms(through)
            for name, options in (("write", ()), ("write_fua", ("--fua",)), ("write_then_flush", ("--operation", "write-then-flush"))):
                took = self.load(pair.a.uri, "--seconds", "3", *options)["p50_us"] / 1000
                self.show(f"sync_{name}_at_{rtt_ms}_ms_beyond_rtt", took - rtt, "ms", f"<={BEYOND_RTT_MS}", took - rtt <= BEYOND_RTT_MS)
            self.end_pair(pair)
            wan.close()

    def async_write(self):
        """4 KiB writes in mode async against the same kind of file served raw by nbdkit, same client."""
        size = 256 * MIB
        rates = {}
        for _ in range(ROUNDS):
            for depth in (1, 32):
                raw = self.empty_file("raw.img", size)
                server, uri, _ = self.nbdkit(raw, False)
                self.warm_up(2 * size)
                rates.setdefault(("raw", depth), []).append(self.load(uri, "--depth", str(depth), "--seconds", "3")["operations_per_second"])
                server.stop()
                pair = self.pair(size, None, '[replication]\nmode = "async"\n')
                self.start_apart(pair, ("--both-empty",), serve=True)
                self.meet(pair)
                self.load(pair.a.uri, "--seconds", "0.2")
                self.warm_up(2 * size)
                rates.setdefault(("ours", depth), []).append(
                    self.load(pair.a.uri, "--depth", str(depth), "--seconds", "3")["operations_per_second"])
                self.end_pair(pair)
        for depth in (1, 32):
            raw, ours = (statistics.median(rates[(name, depth)]) for name in ("raw", "ours"))
            self.show(f"async_write_depth_{depth}_raw", raw, "writes/s")
            self.show(f"async_write_depth_{depth}_ours", ours, "writes/s")
            self.show(f"async_write_depth_{depth}_ours_to_raw", ours / raw, "x", ">=0.9", ours / raw >= 0.9)


RESYNC = '[replication]\nmode = "async"\n[resync]\nkeep_undo = true\n'
PARTS = ("full_sync", "wan", "resync", "checksum", "verify", "sync_write", "async_write")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--only", default=",".join(PARTS))
    options = parser.parse_args()
    requirements.require(replicated_disk.missing_tools())
    with tempfile.TemporaryDirectory(dir=os.environ.get("ANTIPODE_BENCH_DIR")) as folder:
        bench = Bench(folder, options)
        try:
            for part in options.only.split(","):
                getattr(bench, part)()
                bench.end_all()
        finally:
            bench.end_all()
    print(f"missed={','.join(bench.missed) or 'none'}")
    return 1 if bench.missed else 0


if __name__ == "__main__":
    sys.exit(main())
