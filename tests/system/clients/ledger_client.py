#!/usr/bin/env python3
"""Sends numbered requests to a guest's echo service and writes down every acknowledgement.

    ledger_client.py --address 10.0.2.15:7 --log acks.jsonl [options]

A request is the text `NAME NUMBER`, numbered from 1. TCP: one connection, made once and kept; a broken one is the end
(that is what a failover must not cause). UDP: a request is sent again after --timeout-ms without an answer.

The log is JSON lines, each written as soon as it is known: a head {"client", "transport", "address", "time"}; for each
answer {"time", "request", "seq", "uptime_ms", "rtt_ms", "first"} (first: false for an answer to a request that was
answered before); and at the end {"summary": {...}}. ledger_check.py holds it against a disk.

The last line on stdout is `acknowledged=N sent=N ... longest_silence_ms=G ...`. A silence is a time in which a request
waited for an answer and none came. Exit code: 0 all is answered and the connection was kept; 1 not so; 2 usage.
"""

import argparse
import collections
import json
import selectors
import signal
import socket
import sys
import time

import ledger


class RequestWindow:
    """Which requests are out, when each has to be sent again, and what is known of the answers. No I/O, no clock."""

    def __init__(self, name, window=1, count=None, timeout_s=None, pad_bytes=0, interval_s=0.0):
        self.name = name
        self.window = window
        self.count = count
        self.timeout_s = timeout_s  # None: the transport is reliable
        self.pad_bytes = pad_bytes
        self.interval_s = interval_s
        self.stopped = False
        self.next_number = 1
        self.next_send_time = None
        self.waiting = collections.OrderedDict()  # number -> [first sent, last sent]
        self.answered = set()
        self.retransmitted = 0
        self.duplicate_answers = 0
        self.strange_answers = 0
        self.last_answer_time = None
        self.longest_silence_s = 0.0
        self.longest_silence_began = None
        self.uptime_ms_max = None
        self.uptime_steps_back = 0
        self.round_trips_s = []

    def payload(self, number):
        text = f"{self.name} {number}".encode()
        if len(text) < self.pad_bytes:
            text += b" " + b"." * (self.pad_bytes - len(text) - 1)
        return text

    def number_of(self, payload):
        """The number of a request of ours, or None."""
        parts = payload.split(b" ")
        if len(parts) < 2 or parts[0] != self.name.encode() or not parts[1].isdigit():
            return None
        number = int(parts[1])
        return number if payload == self.payload(number) else None

    def may_send(self):
        return not self.stopped and len(self.waiting) < self.window and (
            self.count is None or self.next_number <= self.count)

    def take_sends(self, now):
        """The payloads to send now: new ones that fit the window, and old ones whose time is up."""
        payloads = []
        if self.timeout_s is not None:
            for number, times in self.waiting.items():
                if now - times[1] >= self.timeout_s:
                    times[1] = now
                    self.retransmitted += 1
                    payloads.append(self.payload(number))
        while self.may_send() and (self.next_send_time is None or now >= self.next_send_time):
            if self.interval_s:
                self.next_send_time = now + self.interval_s
            self.waiting[self.next_number] = [now, now]
            payloads.append(self.payload(self.next_number))
            self.next_number += 1
        return payloads

    def wake_time(self):
        """When take_sends() will have something without an answer coming in; None: never."""
        times = []
        if self.timeout_s is not None and self.waiting:
            times.append(min(last for _, last in self.waiting.values()) + self.timeout_s)
        if self.may_send() and self.next_send_time is not None:
            times.append(self.next_send_time)
        return min(times, default=None)

    def note_silence(self, now):
        if not self.waiting:
            return
        began = next(iter(self.waiting.values()))[0]
        if self.last_answer_time is not None:
            began = max(began, self.last_answer_time)
        if now - began > self.longest_silence_s:
            self.longest_silence_s = now - began
            self.longest_silence_began = began

    def take_answer(self, line, now):
        """The log entry of an answer, without its time; None if it answers nothing of ours."""
        parsed = ledger.parse_answer(line)
        number = None if parsed is None else self.number_of(parsed[0])
        if number is None or number >= self.next_number:
            self.strange_answers += 1
            return None
        request, sequence, uptime_ms = parsed
        self.note_silence(now)
        self.last_answer_time = now
        if uptime_ms is not None:
            if self.uptime_ms_max is not None and uptime_ms < self.uptime_ms_max and self.timeout_s is None:
                self.uptime_steps_back += 1
            self.uptime_ms_max = max(uptime_ms, self.uptime_ms_max or 0)
        first = number in self.waiting
        entry = {"request": request.decode(), "seq": sequence, "uptime_ms": uptime_ms, "first": first}
        if first:
            sent = self.waiting.pop(number)[0]
            self.answered.add(number)
            self.round_trips_s.append(now - sent)
            entry["rtt_ms"] = round((now - sent) * 1000, 3)
        else:
            self.duplicate_answers += 1
        return entry

    def done(self):
        return not self.waiting and (self.stopped or self.count is not None and self.next_number > self.count)

    def summary(self):
        trips = sorted(self.round_trips_s)

        def percentile(share):
            return round(trips[min(len(trips) - 1, int(len(trips) * share))] * 1000, 3) if trips else None

        return {
            "acknowledged": len(self.answered),
            "sent": self.next_number - 1,
            "unanswered": len(self.waiting),
            "retransmitted": self.retransmitted,
            "duplicate_answers": self.duplicate_answers,
            "strange_answers": self.strange_answers,
            "longest_silence_ms": round(self.longest_silence_s * 1000),
            "uptime_steps_back": self.uptime_steps_back,
            "rtt_ms_p50": percentile(0.5),
            "rtt_ms_p99": percentile(0.99),
        }


class ConnectionLost(Exception):
    pass


class Tcp:
    def __init__(self, address, wait_s):
        deadline = time.monotonic() + wait_s
        while True:
            try:
                self.socket = socket.create_connection(address, timeout=max(0.1, deadline - time.monotonic()))
                break
            except OSError as error:
                if time.monotonic() >= deadline:
                    raise ConnectionLost(f"cannot connect to {address[0]}:{address[1]}: {error}") from error
                time.sleep(0.05)  # nobody tells us when a guest begins to listen
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.unsent = b""
        self.unread = b""

    def send(self, payload):
        self.unsent += payload + b"\n"

    def wants_write(self):
        return bool(self.unsent)

    def flush(self):
        try:
            while self.unsent:
                self.unsent = self.unsent[self.socket.send(self.unsent):]
        except BlockingIOError:
            pass
        except OSError as error:
            raise ConnectionLost(f"connection lost while sending: {error}") from error

    def receive(self):
        try:
            data = self.socket.recv(65536)
        except BlockingIOError:
            return []
        except OSError as error:
            raise ConnectionLost(f"connection lost: {error}") from error
        if not data:
            raise ConnectionLost("the guest closed the connection")
        *lines, self.unread = (self.unread + data).split(b"\n")
        return lines


class Udp:
    def __init__(self, address):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.connect(address)
        self.socket.setblocking(False)

    def send(self, payload):
        try:
            self.socket.send(payload)
        except OSError:
            pass  # nobody there (yet, or any more): it is sent again

    def wants_write(self):
        return False

    def flush(self):
        pass

    def receive(self):
        lines = []
        while True:
            try:
                lines.append(self.socket.recv(65536))
            except BlockingIOError:
                return lines
            except OSError:
                continue  # an ICMP error, delivered once


class AckLog:
    def __init__(self, path):
        self.file = open(path, "w", encoding="utf-8") if path else None

    def write(self, entry):
        if self.file:
            self.file.write(json.dumps(entry) + "\n")
            self.file.flush()

    def close(self):
        if self.file:
            self.file.close()


class Client:
    """Joins a window, a transport and a log. stop() may come from a signal handler."""

    def __init__(self, window, transport, log, seconds=None, drain_s=5.0, give_up_s=60.0):
        self.window = window
        self.transport = transport
        self.log = log
        self.deadline = None if seconds is None else time.monotonic() + seconds
        self.drain_s = drain_s
        self.give_up_s = give_up_s
        self.drain_deadline = None
        self.lost = None

    def stop(self, *_):
        self.window.stopped = True

    def timeout(self, now):
        times = [time_ for time_ in (self.window.wake_time(), self.deadline, self.drain_deadline) if time_ is not None]
        # A second at most: a signal only sets a flag.
        return max(0.0, min([1.0] + [time_ - now for time_ in times]))

    def must_end(self, now):
        if self.deadline is not None and now >= self.deadline:
            self.window.stopped = True
        sending_is_over = self.window.stopped or (
            self.window.count is not None and self.window.next_number > self.window.count)
        if sending_is_over and self.drain_deadline is None:
            self.drain_deadline = now + self.drain_s
        if self.window.waiting:
            since = next(iter(self.window.waiting.values()))[0]
            if now - max(since, self.window.last_answer_time or since) > self.give_up_s:
                return True
        return self.window.done() or self.drain_deadline is not None and now >= self.drain_deadline

    def run(self):
        selector = selectors.DefaultSelector()
        selector.register(self.transport.socket, selectors.EVENT_READ)
        try:
            while not self.must_end(time.monotonic()):
                for payload in self.window.take_sends(time.monotonic()):
                    self.transport.send(payload)
                self.transport.flush()
                events = selectors.EVENT_READ
                if self.transport.wants_write():
                    events |= selectors.EVENT_WRITE
                selector.modify(self.transport.socket, events)
                ready = selector.select(self.timeout(time.monotonic()))
                if any(mask & selectors.EVENT_READ for _, mask in ready):
                    self.take(self.transport.receive())
        except ConnectionLost as error:
            self.lost = str(error)
        self.window.note_silence(time.monotonic())

    def take(self, lines):
        now = time.monotonic()
        for line in lines:
            entry = self.window.take_answer(line, now)
            if entry is not None:
                self.log.write({"time": round(time.time(), 6), **entry})


def arguments(argv):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--address", required=True, help="HOST:PORT of the guest's echo service")
    parser.add_argument("--transport", choices=["tcp", "udp"], default="tcp")
    parser.add_argument("--log", help="where the acknowledgements go (JSON lines)")
    parser.add_argument("--name", default="client", help="first word of each request, unique per client and run")
    parser.add_argument("--window", type=int, default=1, help="requests in flight")
    parser.add_argument("--count", type=int, help="requests to send")
    parser.add_argument("--seconds", type=float, help="how long to send")
    parser.add_argument("--interval-ms", type=float, default=0.0, help="least time between two new requests")
    parser.add_argument("--bytes", type=int, default=0, help="pad each request to this length")
    parser.add_argument("--timeout-ms", type=float, default=500.0, help="UDP: send again after this time")
    parser.add_argument("--wait-seconds", type=float, default=30.0, help="TCP: how long to try to connect")
    parser.add_argument("--drain-seconds", type=float, default=10.0, help="how long to wait for the last answers")
    parser.add_argument("--give-up-seconds", type=float, default=60.0, help="end after this long a silence")
    options = parser.parse_args(argv)
    host, colon, port = options.address.rpartition(":")
    if not colon or not port.isdigit():
        parser.error(f"--address {options.address} is not HOST:PORT")
    if options.window < 1 or options.bytes > ledger.PAYLOAD_BYTES_MAX:
        parser.error(f"--window is at least 1, --bytes at most {ledger.PAYLOAD_BYTES_MAX}")
    if " " in options.name:
        parser.error("--name is one word")
    options.host_port = (host, int(port))
    return options


def report(client):
    summary = client.window.summary()
    summary["connection"] = "lost" if client.lost else "kept"
    began = client.window.longest_silence_began
    if began is not None:
        summary["longest_silence_began"] = round(time.time() - (time.monotonic() - began), 3)
    client.log.write({"summary": summary})
    if client.lost:
        print(f"ledger_client: {client.lost}", file=sys.stderr)
    print(" ".join(f"{key}={value}" for key, value in summary.items()))
    return 0 if not client.lost and not client.window.waiting else 1


def main(argv=None):
    options = arguments(argv)
    window = RequestWindow(
        options.name, options.window, options.count,
        options.timeout_ms / 1000 if options.transport == "udp" else None,
        options.bytes, options.interval_ms / 1000)
    log = AckLog(options.log)
    log.write({"client": options.name, "transport": options.transport, "address": options.address,
               "time": round(time.time(), 6)})
    try:
        transport = Tcp(options.host_port, options.wait_seconds) if options.transport == "tcp" else Udp(
            options.host_port)
    except ConnectionLost as error:
        print(f"ledger_client: {error}", file=sys.stderr)
        return 1
    client = Client(window, transport, log, options.seconds, options.drain_seconds, options.give_up_seconds)
    signal.signal(signal.SIGINT, client.stop)
    signal.signal(signal.SIGTERM, client.stop)
    with transport.socket:
        client.run()
    code = report(client)
    log.close()
    return code


if __name__ == "__main__":
    sys.exit(main())
