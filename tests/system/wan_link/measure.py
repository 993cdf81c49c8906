#!/usr/bin/env python3
# bench-targets: wan_link
"""How exact the line emulator is: measures what a line does against what it was told to do.

    measure.py             all figures, with the goals: 50 ms of delay within 1 ms, 125 MB/s within 3 %
    measure.py --seconds N longer or shorter transfers

A figure is the median of several rounds, so that one busy moment of the machine does not decide. No root needed:
everything is on the loopback device. Exit code 1 when a goal is missed."""

import argparse
import os
import socket
import statistics
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from lib import paths, wait  # noqa: E402  pylint: disable=wrong-import-position
from lib.wan import Wan  # noqa: E402  pylint: disable=wrong-import-position

PIECE = b"\0" * (1 << 20)


def free_port(kind=socket.SOCK_STREAM):
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Line:
    """A forward of each kind on loopback."""

    def __init__(self, wan):
        self.wan = wan
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = free_port()
        wan.do(f"forward tcp a->b 127.0.0.1:{self.port} 127.0.0.1:{self.listener.getsockname()[1]}")
        self.near = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.near.bind(("127.0.0.1", 0))
        self.far = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.far.bind(("127.0.0.1", 0))
        self.near_port, self.far_port = free_port(socket.SOCK_DGRAM), free_port(socket.SOCK_DGRAM)
        wan.do(f"forward udp a<->b 127.0.0.1:{self.near_port} 127.0.0.1:{self.near.getsockname()[1]}"
               f" 127.0.0.1:{self.far_port} 127.0.0.1:{self.far.getsockname()[1]}")

    def connect(self):
        client = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        server, _ = self.listener.accept()
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            end.settimeout(30)
        return client, server


def echo(server):
    try:
        while data := server.recv(65536):
            server.sendall(data)
    except OSError:
        pass


def tcp_round_trips(line, count):
    client, server = line.connect()
    threading.Thread(target=echo, args=(server,), daemon=True).start()
    client.sendall(b"x")
    client.recv(1)
    times = []
    for _ in range(count):
        start = time.perf_counter()
        client.sendall(b"x" * 64)
        received = 0
        while received < 64:
            received += len(client.recv(64))
        times.append((time.perf_counter() - start) * 1000)
    client.close()
    server.close()
    return times


def one_way_datagrams(line, count):
    """Sender and receiver share a clock: they are one process."""
    times = []
    line.far.settimeout(5)
    for index in range(count):
        start = time.perf_counter()
        line.near.sendto(index.to_bytes(4, "little"), ("127.0.0.1", line.near_port))
        line.far.recv(64)
        times.append((time.perf_counter() - start) * 1000)
    return times


def throughput(line, seconds, connections=1):
    """MB/s at the receivers, from the first second on (the line fills first)."""
    ends = [line.connect() for _ in range(connections)]
    stop = threading.Event()
    counts = [0] * connections

    def send(client):
        try:
            while not stop.is_set():
                client.sendall(PIECE)
        except OSError:
            pass

    def receive(index, server):
        room = bytearray(1 << 20)
        try:
            while count := server.recv_into(room):
                counts[index] += count
        except OSError:
            pass

    threads = []
    for index, (client, server) in enumerate(ends):
        threads.append(threading.Thread(target=send, args=(client,), daemon=True))
        threads.append(threading.Thread(target=receive, args=(index, server), daemon=True))
    for thread in threads:
        thread.start()
    wait.until("the line is full", lambda: sum(counts) > 0, 10)
    time.sleep(1)  # a measuring window, not a synchronisation
    before, start = sum(counts), time.perf_counter()
    time.sleep(seconds)
    after, end = sum(counts), time.perf_counter()
    stop.set()
    for client, server in ends:
        client.close()
        server.close()
    return (after - before) / (end - start) / 1e6


class Report:
    def __init__(self):
        self.missed = 0

    def show(self, what, measured, unit, goal, tolerance, detail=""):
        good = abs(measured - goal) <= tolerance
        self.missed += not good
        print(f"wan_link {what}: {measured:.3f} {unit} (goal {goal:g} +- {tolerance:g}: {'met' if good else 'MISSED'}) {detail}",
              flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3.0)
    arguments = parser.parse_args()
    log = os.path.join(paths.build(), "wan_link_measure.log")
    report = Report()
    with Wan(None, log) as wan:
        line = Line(wan)
        for delay in (1, 10, 50, 150):
            wan.set("a<->b", delay_ms=delay, rate_mbytes=125)
            count = max(20, int(arguments.seconds * 300 / delay))
            times = one_way_datagrams(line, count)
            quantiles = statistics.quantiles(times, n=100)
            report.show(f"one way, datagrams, {delay} ms", statistics.median(times), "ms", delay, 1, f"p99 {quantiles[98]:.3f}")
            times = tcp_round_trips(line, count // 2)
            quantiles = statistics.quantiles(times, n=100)
            report.show(f"round trip, TCP, {delay} ms each way", statistics.median(times), "ms", 2 * delay, 2, f"p99 {quantiles[98]:.3f}")
        for delay, rate, connections in ((5, 125, 1), (75, 125, 1), (75, 125, 4), (50, 10, 1)):
            wan.set("a<->b", delay_ms=delay, rate_mbytes=rate)
            rates = [throughput(line, arguments.seconds, connections) for _ in range(3)]
            report.show(f"throughput, {connections} connections, {rate} MB/s, {2 * delay} ms RTT", statistics.median(rates), "MB/s",
                        rate, 0.03 * rate, "rounds " + " ".join(f"{rate:.1f}" for rate in rates))
        wan.set("a<->b", delay_ms=0, rate_mbytes=0)
        print(f"wan_link without limits: {throughput(line, arguments.seconds):.0f} MB/s", flush=True)
        stats = wan.stats()["directions"]["a->b"]
        print(f"wan_link its own lateness: mean {stats['lateness_ms_mean']:.3f} ms, max {stats['lateness_ms_max']:.3f} ms")
    return 1 if report.missed else 0


if __name__ == "__main__":
    sys.exit(main())
