#!/usr/bin/env python3
"""Unit tests of the ledger clients: the format, the request window, the client against a server, the checker."""

import contextlib
import io
import json
import os
import socket
import tempfile
import threading
import unittest

import ledger
import ledger_check
import ledger_client


class FormatTest(unittest.TestCase):
    # The same values are in tests/guests/unit/ledger_format_test.cc, which tests what the guests run.
    def test_golden_bytes(self):
        raw = ledger.pack(3, 1234, b"hello 17")
        self.assertEqual(raw[:24], bytes.fromhex("41504c47 08000000 0300000000000000 d204000000000000"))
        self.assertEqual(raw[24:32], (0x387785AF8B50AA4C).to_bytes(8, "little"))
        self.assertEqual(raw[32:], b"hello 17".ljust(480, b"\0"))

    def test_parse_gives_back_what_was_packed(self):
        record, broken = ledger.parse(ledger.pack(9, 77, b"z" * 480), 9)
        self.assertIsNone(broken)
        self.assertEqual((record.sequence, record.guest_time_ms, record.payload), (9, 77, b"z" * 480))

    def test_every_flipped_bit_is_noticed(self):
        good = ledger.pack(7, 99, b"a request")
        for bit in range(len(good) * 8):
            bad = bytearray(good)
            bad[bit // 8] ^= 1 << (bit % 8)
            self.assertIsNone(ledger.parse(bytes(bad), 7)[0], f"bit {bit}")

    def test_parse_names_the_broken_rule(self):
        self.assertEqual(ledger.parse(bytes(512), 1)[1], "magic")
        self.assertEqual(ledger.parse(b"", 1)[1], "cut off")
        self.assertEqual(ledger.parse(ledger.pack(1, 0, b"x"), 2)[1], "sequence")

    def test_answers(self):
        self.assertEqual(ledger.parse_answer(b"c 1 seq=5 uptime_ms=70"), (b"c 1", 5, 70))
        self.assertEqual(ledger.parse_answer(b"c 1 seq=5"), (b"c 1", 5, None))
        self.assertEqual(ledger.parse_answer(b"a seq=1 seq=2"), (b"a seq=1", 2, None))
        for line in (b"", b"c 1", b"c 1 seq=", b"c 1 seq=5 uptime_ms=", b"ERR a request has 480 bytes at most"):
            self.assertIsNone(ledger.parse_answer(line))


def answer(number, sequence, uptime_ms=0, name="c"):
    return f"{name} {number} seq={sequence} uptime_ms={uptime_ms}".encode()


class RequestWindowTest(unittest.TestCase):
    def test_sends_as_many_as_the_window_holds(self):
        window = ledger_client.RequestWindow("c", window=3, count=4)
        self.assertEqual(window.take_sends(0.0), [b"c 1", b"c 2", b"c 3"])
        self.assertEqual(window.take_sends(1.0), [])
        self.assertTrue(window.take_answer(answer(1, 1), 1.0)["first"])
        self.assertEqual(window.take_sends(1.0), [b"c 4"])
        for number in (2, 3, 4):
            window.take_answer(answer(number, number), 2.0)
        self.assertEqual(window.take_sends(2.0), [])
        self.assertTrue(window.done())

    def test_an_interval_paces_new_requests(self):
        window = ledger_client.RequestWindow("c", window=9, interval_s=0.5)
        self.assertEqual(window.take_sends(10.0), [b"c 1"])
        self.assertEqual(window.wake_time(), 10.5)
        self.assertEqual(window.take_sends(10.4), [])
        self.assertEqual(window.take_sends(10.5), [b"c 2"])

    def test_unanswered_requests_are_sent_again_after_the_timeout(self):
        window = ledger_client.RequestWindow("c", window=2, count=2, timeout_s=1.0)
        window.take_sends(0.0)
        window.take_answer(answer(1, 1), 0.5)
        self.assertEqual(window.wake_time(), 1.0)
        self.assertEqual(window.take_sends(0.9), [])
        self.assertEqual(window.take_sends(1.0), [b"c 2"])
        self.assertEqual(window.take_sends(1.5), [])
        self.assertEqual(window.take_sends(2.0), [b"c 2"])
        self.assertEqual(window.retransmitted, 2)

    def test_a_second_answer_is_logged_but_counts_once(self):
        window = ledger_client.RequestWindow("c", count=1, timeout_s=1.0)
        window.take_sends(0.0)
        self.assertTrue(window.take_answer(answer(1, 1), 0.1)["first"])
        again = window.take_answer(answer(1, 2), 0.2)
        self.assertEqual((again["first"], again["seq"]), (False, 2))
        summary = window.summary()
        self.assertEqual((summary["acknowledged"], summary["duplicate_answers"]), (1, 1))

    def test_answers_to_nobody_are_counted_not_believed(self):
        window = ledger_client.RequestWindow("c", count=1)
        window.take_sends(0.0)
        for line in (b"rubbish", answer(2, 1), answer(1, 1, name="d"), b"c 1x seq=1", b"c 1 more seq=1"):
            self.assertIsNone(window.take_answer(line, 0.1), line)
        self.assertEqual(window.strange_answers, 5)
        self.assertFalse(window.done())

    def test_padding_is_part_of_the_request(self):
        window = ledger_client.RequestWindow("c", count=1, pad_bytes=10)
        self.assertEqual(window.take_sends(0.0), [b"c 1 ......"])
        self.assertIsNone(window.take_answer(answer(1, 1), 0.1))
        self.assertTrue(window.take_answer(b"c 1 ...... seq=1", 0.1)["first"])

    def test_silence_is_waiting_for_an_answer(self):
        window = ledger_client.RequestWindow("c", window=2, interval_s=5.0)
        window.take_sends(0.0)
        window.take_answer(answer(1, 1), 0.2)
        window.take_sends(5.0)  # 4.8 s without an answer, but nothing was asked
        window.take_answer(answer(2, 2), 5.1)
        self.assertEqual(window.summary()["longest_silence_ms"], 200)
        window.take_sends(10.0)
        window.note_silence(13.0)
        self.assertEqual(window.summary()["longest_silence_ms"], 3000)

    def test_silence_counts_from_the_last_answer(self):
        window = ledger_client.RequestWindow("c", window=2, count=2)
        window.take_sends(0.0)
        window.take_answer(answer(1, 1), 1.0)
        window.take_answer(answer(2, 2), 1.5)
        self.assertEqual(window.summary()["longest_silence_ms"], 1000)

    def test_a_guest_that_started_again_is_noticed(self):
        window = ledger_client.RequestWindow("c", window=2, count=3)
        window.take_sends(0.0)
        window.take_answer(answer(1, 1, 9000), 0.1)
        window.take_answer(answer(2, 2, 50), 0.2)
        self.assertEqual(window.summary()["uptime_steps_back"], 1)


class EchoServer:
    """Answers as a guest does, and keeps the ledger. Runs until closed."""

    def __init__(self, kind, misbehave=lambda count: None):
        self.socket = socket.socket(socket.AF_INET, kind)
        self.socket.bind(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.kind = kind
        self.misbehave = misbehave
        self.payloads = []
        self.count = 0
        if kind == socket.SOCK_STREAM:
            self.socket.listen()
        self.thread = threading.Thread(target=self.serve_tcp if kind == socket.SOCK_STREAM else self.serve_udp)
        self.thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.kind == socket.SOCK_STREAM:
            self.socket.shutdown(socket.SHUT_RDWR)  # wakes accept()
        else:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as poke:
                poke.sendto(b"quit", ("127.0.0.1", self.port))
        self.thread.join()
        self.socket.close()

    def answer(self, payload):
        self.payloads.append(payload)
        return payload + f" seq={len(self.payloads)} uptime_ms={len(self.payloads)}".encode()

    def serve_tcp(self):
        try:
            connection, _ = self.socket.accept()
        except OSError:
            return
        with connection, connection.makefile("rb") as lines:
            for line in lines:
                self.count += 1
                act = self.misbehave(self.count)
                if act == "close":
                    return
                out = self.answer(line.rstrip(b"\n")) + b"\n"
                with contextlib.suppress(OSError):
                    for part in (out[:3], out[3:]):  # a line in pieces
                        connection.sendall(part)

    def serve_udp(self):
        while True:
            payload, peer = self.socket.recvfrom(2048)
            if payload == b"quit":
                return
            self.count += 1
            act = self.misbehave(self.count)
            if act == "drop":
                continue
            out = self.answer(payload)
            if act == "lose answer":
                continue
            for _ in range(2 if act == "repeat" else 1):
                self.socket.sendto(out, peer)

    def disk(self):
        return b"".join(ledger.pack(number, 0, payload) for number, payload in enumerate(self.payloads, 1))


class Folder(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def path(self, name, content=None):
        path = os.path.join(self.folder, name)
        if content is not None:
            with open(path, "wb") as file:
                file.write(content)
        return path

    def run_main(self, main, *argv):
        """(exit code, last line of stdout as a dictionary, stderr)"""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main([str(each) for each in argv])
        lines = out.getvalue().strip().split("\n")
        return code, dict(pair.split("=") for pair in lines[-1].split(" ") if "=" in pair), err.getvalue()

    def run_client(self, server, transport, *argv):
        return self.run_main(ledger_client.main, "--address", f"127.0.0.1:{server.port}", "--transport", transport,
                             "--log", self.path("acks"), "--name", "c", *argv)

    def run_check(self, disk, *argv):
        return self.run_main(ledger_check.main, self.path("disk", disk), *argv)


class ClientTest(Folder):
    def test_tcp(self):
        with EchoServer(socket.SOCK_STREAM) as server:
            code, summary, _ = self.run_client(server, "tcp", "--count", 200, "--window", 7)
        self.assertEqual((code, summary["acknowledged"], summary["connection"]), (0, "200", "kept"))
        self.assertEqual(server.payloads, [f"c {number}".encode() for number in range(1, 201)])
        code, counts, _ = self.run_check(server.disk() + bytes(4096), self.path("acks"))
        self.assertEqual((code, counts), (0, {"acknowledged": "200", "lost": "0", "duplicated": "0"}))

    def test_tcp_connection_that_breaks_is_the_end(self):
        with EchoServer(socket.SOCK_STREAM, lambda count: "close" if count == 5 else None) as server:
            code, summary, err = self.run_client(server, "tcp", "--count", 10)
        self.assertEqual((code, summary["acknowledged"], summary["connection"]), (1, "4", "lost"))
        self.assertIn("closed the connection", err)

    def test_tcp_nobody_there(self):
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            port = unused.getsockname()[1]
            code, _, err = self.run_main(ledger_client.main, "--address", f"127.0.0.1:{port}", "--wait-seconds", 0)
        self.assertEqual(code, 1)
        self.assertIn("cannot connect", err)

    def test_udp_survives_loss_of_requests_and_answers_and_repeats(self):
        acts = {0: "drop", 1: "lose answer", 2: "repeat"}
        with EchoServer(socket.SOCK_DGRAM, lambda count: acts.get(count % 7)) as server:
            code, summary, _ = self.run_client(server, "udp", "--count", 60, "--window", 8, "--timeout-ms", 20)
        self.assertEqual((code, summary["acknowledged"]), (0, "60"))
        self.assertGreater(int(summary["retransmitted"]), 0)
        self.assertGreater(int(summary["duplicate_answers"]), 0)
        code, counts, _ = self.run_check(server.disk(), self.path("acks"))
        self.assertEqual((code, counts["acknowledged"], counts["lost"]), (0, "60", "0"))
        self.assertGreater(int(counts["duplicated"]), 0)

    def test_udp_gives_up_on_a_silent_guest(self):
        with EchoServer(socket.SOCK_DGRAM, lambda count: "drop" if count > 3 else None) as server:
            code, summary, _ = self.run_client(server, "udp", "--count", 5, "--timeout-ms", 10,
                                               "--give-up-seconds", 0.1)
        self.assertEqual((code, summary["acknowledged"], summary["unanswered"]), (1, "3", "1"))

    def test_the_log_ends_with_the_summary(self):
        with EchoServer(socket.SOCK_STREAM) as server:
            self.run_client(server, "tcp", "--count", 3)
        with open(self.path("acks"), encoding="utf-8") as file:
            entries = [json.loads(line) for line in file]
        self.assertEqual(entries[0]["transport"], "tcp")
        self.assertEqual([entry["seq"] for entry in entries[1:-1]], [1, 2, 3])
        self.assertEqual(entries[-1]["summary"]["acknowledged"], 3)


class CheckTest(Folder):
    def records(self, *payloads):
        return b"".join(ledger.pack(number, 0, payload) for number, payload in enumerate(payloads, 1))

    def log(self, *answers, transport="tcp", tail=""):
        lines = [json.dumps({"client": "c", "transport": transport})]
        lines += [json.dumps({"request": request, "seq": sequence}) for request, sequence in answers]
        return self.path("acks", ("\n".join(lines) + "\n" + tail).encode())

    def test_no_log(self):
        code, counts, _ = self.run_check(self.records(b"c 1", b"c 2") + bytes(1024))
        self.assertEqual((code, counts), (0, {"acknowledged": "0", "lost": "0", "duplicated": "0"}))

    def test_offset(self):
        disk = bytes(100) + self.records(b"c 1")
        code, counts, _ = self.run_check(disk, self.log(("c 1", 1)), "--offset", 100)
        self.assertEqual((code, counts["lost"]), (0, "0"))

    def test_acknowledged_but_not_on_the_disk(self):
        code, counts, err = self.run_check(self.records(b"c 1", b"c 2"), self.log(("c 1", 1), ("c 3", 3)))
        self.assertEqual((code, counts["acknowledged"], counts["lost"]), (1, "2", "1"))
        self.assertIn("`c 3` was acknowledged as record 3; the disk has 2", err)

    def test_acknowledged_as_another_record(self):
        code, counts, err = self.run_check(self.records(b"c 1", b"c 2"), self.log(("c 2", 1), transport="udp"))
        self.assertEqual((code, counts["lost"]), (1, "1"))
        self.assertIn("which is `c 1`", err)

    def test_a_broken_record_loses_all_after_it(self):
        disk = bytearray(self.records(*[f"c {number}".encode() for number in range(1, 101)]))
        disk[512 * 10 + 40] ^= 1
        code, counts, err = self.run_check(bytes(disk), self.log(*[(f"c {n}", n) for n in range(1, 101)]))
        self.assertEqual((code, counts["lost"]), (1, "90"))
        self.assertIn("record 11 is broken (checksum), but there is content at the place of record 43", err)

    def test_a_torn_last_write_is_no_damage(self):
        disk = self.records(b"c 1", b"c 2") + bytes(200) + b"x" * 100 + bytes(4096)
        code, counts, err = self.run_check(disk, self.log(("c 1", 1), ("c 2", 2)))
        self.assertEqual((code, counts["lost"]), (0, "0"))
        self.assertIn("torn", err)

    def test_content_far_beyond_the_end_is_damage(self):
        disk = self.records(b"c 1") + bytes(512 * 40) + b"x"
        code, _, err = self.run_check(disk, self.log(("c 1", 1)))
        self.assertEqual(code, 1)
        self.assertIn("damaged", err)

    def test_holes_are_not_read(self):
        path = self.path("sparse", self.records(b"c 1"))
        os.truncate(path, 1 << 40)
        code, counts, _ = self.run_main(ledger_check.main, path, self.log(("c 1", 1)))
        self.assertEqual((code, counts["lost"]), (0, "0"))

    def test_order_of_a_tcp_client(self):
        disk = self.records(b"c 1", b"c 3", b"d 1", b"c 2")
        log = self.log(("c 1", 1), ("c 3", 2))
        code, counts, err = self.run_check(disk, log)
        self.assertEqual((code, counts["lost"]), (1, "0"))
        self.assertIn("`c 3` after number 1", err)
        self.assertIn("`c 2` after number 3", err)

    def test_order_of_a_udp_client_is_free(self):
        disk = self.records(b"c 2", b"c 1", b"c 2")
        code, counts, _ = self.run_check(disk, self.log(("c 2", 1), ("c 1", 2), transport="udp"))
        self.assertEqual((code, counts), (0, {"acknowledged": "2", "lost": "0", "duplicated": "1"}))

    def test_acknowledgements_of_tcp_ascend(self):
        code, _, err = self.run_check(self.records(b"c 1", b"c 2"), self.log(("c 2", 2), ("c 1", 1)))
        self.assertEqual(code, 1)
        self.assertIn("record 1 was acknowledged after record 2", err)

    def test_a_killed_client_leaves_half_a_line(self):
        log = self.log(("c 1", 1), tail='{"request": "c 2", "se')
        code, counts, _ = self.run_check(self.records(b"c 1", b"c 2"), log)
        self.assertEqual((code, counts["acknowledged"]), (0, "1"))

    def test_rubbish_in_a_log_is_named(self):
        log = self.path("acks", b"{}\nrubbish\n")
        with self.assertRaisesRegex(SystemExit, "acks:2: not a line"):
            self.run_check(self.records(b"c 1"), log)

    def test_a_missing_disk_is_named(self):
        code, _, err = self.run_main(ledger_check.main, self.path("absent"))
        self.assertEqual(code, 2)
        self.assertIn("absent", err)


if __name__ == "__main__":
    unittest.main()
