#!/usr/bin/env python3
"""The harness itself: the network of a test is what it says, the lines do what they are told, and everything is gone
afterwards. Uses plain sockets in place of replicators."""

import os
import socket
import subprocess
import sys
import threading
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import case, netns, process, requirements, wait  # noqa: E402  pylint: disable=wrong-import-position
from lib.port_forward import PortForward  # noqa: E402  pylint: disable=wrong-import-position
from lib.wan import Wan  # noqa: E402  pylint: disable=wrong-import-position

requirements.require(requirements.missing_for_namespaces())
PORT = 7100
HEARTBEAT = 7101


def serve_echo(listener):
    """Echoes on every connection until the listener is closed."""

    def one(connection):
        try:
            while data := connection.recv(65536):
                connection.sendall(data)
        except OSError:
            pass
        finally:
            connection.close()

    def accept():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=one, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()


class Network(case.Case):
    def setUp(self):
        super().setUp()
        self.topology = self.owned(netns.Topology())
        self.wan = self.owned(Wan(self.topology, self.path("wan.log"), log_level="debug"))
        self.wan.forward_tcp("a", "b", PORT)
        self.wan.forward_udp("a", "b", HEARTBEAT)

    def listen(self, role, port):
        address = (netns.SITE_ADDRESS[role], port)
        listener = netns.made_in(self.topology.name(role), lambda: socket.create_server(address))
        self.addCleanup(listener.close)
        serve_echo(listener)
        return listener

    def connect(self, role, port, seconds=5):
        address = (netns.WAN_ADDRESS[role], port)
        connection = netns.made_in(self.topology.name(role), lambda: socket.create_connection(address, timeout=seconds))
        self.addCleanup(connection.close)
        return connection

    def datagram_socket(self, role):
        def make():
            made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            made.bind((netns.SITE_ADDRESS[role], HEARTBEAT))
            made.settimeout(2)
            return made

        made = netns.made_in(self.topology.name(role), make)
        self.addCleanup(made.close)
        return made

    def exchange(self, connection, data=b"ping"):
        start = time.monotonic()
        connection.sendall(data)
        received = b""
        while len(received) < len(data):
            part = connection.recv(65536)
            if not part:
                raise ConnectionResetError("closed")
            received += part
        self.assertEqual(received, data)
        return time.monotonic() - start

    def test_sites_meet_over_the_line_only(self):
        self.listen("b", PORT)
        self.assertEqual(self.exchange(self.connect("a", PORT), b"x" * 1000000) > 0, True)
        with self.assertRaises(OSError):
            address = (netns.SITE_ADDRESS["b"], PORT)
            netns.made_in(self.topology.name("a"), lambda: socket.create_connection(address, timeout=1))

    def test_delay_applies_to_both_kinds(self):
        self.wan.set("a<->b", delay_ms=30)
        self.listen("b", PORT)
        connection = self.connect("a", PORT)
        self.exchange(connection)
        self.assertGreaterEqual(self.exchange(connection), 0.060)  # never less; how exact: measure.py
        near, far = self.datagram_socket("a"), self.datagram_socket("b")
        start = time.monotonic()
        near.sendto(b"beat", (netns.WAN_ADDRESS["a"], HEARTBEAT))
        data, sender = far.recvfrom(100)
        self.assertEqual(data, b"beat")
        self.assertGreaterEqual(time.monotonic() - start, 0.030)
        # Each end sees its peer at one fixed address, the one it sends to.
        self.assertEqual(sender, (netns.WAN_ADDRESS["b"], HEARTBEAT))
        far.sendto(b"back", sender)
        self.assertEqual(near.recvfrom(100), (b"back", (netns.WAN_ADDRESS["a"], HEARTBEAT)))

    def test_black_hole_and_heal(self):
        self.listen("b", PORT)
        connection = self.connect("a", PORT)
        self.exchange(connection)
        self.wan.cut("a<->b")
        connection.settimeout(0.5)
        connection.sendall(b"lost?")
        with self.assertRaises(TimeoutError):
            connection.recv(10)
        with self.assertRaises(OSError):  # nobody answers the handshake either
            self.connect("a", PORT, seconds=0.5)
        self.wan.heal("a<->b")
        connection.settimeout(10)
        self.assertEqual(connection.recv(10), b"lost?")  # TCP has sent it again
        self.exchange(self.connect("a", PORT))

    def test_one_direction(self):
        self.listen("b", PORT)
        connection = self.connect("a", PORT)
        self.exchange(connection)
        self.wan.cut("b->a")
        connection.settimeout(0.5)
        connection.sendall(b"asked")
        with self.assertRaises(TimeoutError):
            connection.recv(10)
        near, far = self.datagram_socket("a"), self.datagram_socket("b")
        near.sendto(b"there", (netns.WAN_ADDRESS["a"], HEARTBEAT))
        self.assertEqual(far.recv(10), b"there")
        self.wan.heal("b->a")
        connection.settimeout(10)
        self.assertEqual(connection.recv(10), b"asked")

    def test_hold_loses_nothing_and_is_not_noticed(self):
        self.listen("b", PORT)
        connection = self.connect("a", PORT)
        self.wan.set("a<->b", delay_ms=20)
        self.exchange(connection)
        connection.sendall(b"one")
        self.wan.cut("a<->b", mode="hold")
        connection.sendall(b"two")
        connection.settimeout(0.3)
        with self.assertRaises(TimeoutError):
            connection.recv(10)
        self.wan.heal("a<->b")
        connection.settimeout(10)
        received = b""
        while len(received) < 6:
            received += connection.recv(10)
        self.assertEqual(received, b"onetwo")

    def test_reset(self):
        self.listen("b", PORT)
        connection = self.connect("a", PORT)
        self.exchange(connection)
        self.wan.cut("a<->b", mode="reset")
        with self.assertRaises(ConnectionError):
            self.exchange(connection)
        with self.assertRaises(ConnectionError):
            self.exchange(self.connect("a", PORT))
        self.wan.heal("a<->b")
        self.exchange(self.connect("a", PORT))

    def test_target_that_is_not_there(self):
        with self.assertRaises(ConnectionError):
            self.exchange(self.connect("a", PORT))
        self.assertEqual(self.wan.stats()["connections"], 0)

    def test_half_close_passes_through(self):
        self.listen("b", PORT)
        connection = self.connect("a", PORT)
        connection.sendall(b"last words")
        connection.shutdown(socket.SHUT_WR)
        received = b""
        while data := connection.recv(100):
            received += data
        self.assertEqual(received, b"last words")
        wait.until("the connection is gone", lambda: self.wan.stats()["connections"] == 0)

    def test_script_changes_the_line(self):
        script = self.path("line.script")
        with open(script, "w", encoding="utf-8") as file:
            file.write("cut a<->b mode=hold\nwait 100ms\nheal a<->b\nset a->b delay_ms=7\n")
        self.wan.do(f"script {script}")
        wait.until("healed", lambda: not self.wan.stats()["directions"]["a->b"]["cut"])
        with self.assertRaises(AssertionError):
            self.wan.do(f"script {script}.missing")

    def test_wrong_commands_are_refused(self):
        for command in ("set a->b speed=3", "forward tcp a->b nowhere 1.2.3.4:5", "cut a", "sing",
                        f"forward tcp a->b {netns.WAN_ADDRESS['a']}:{PORT} 10.0.0.1:1"):
            with self.assertRaises(AssertionError, msg=command):
                self.wan.do(command)

    def test_guest_network_spans_both_sites(self):
        # A stand-in for the guest: an address that moves from a's bridge to b's.
        for site in ("a", "b"):
            netns.ip("address", "add", f"{netns.GUEST_ADDRESS}/24", "dev", "lan0", namespace=self.topology.name(site))
            netns.ip("link", "set", "lan0", "address", "02:00:00:00:00:15", namespace=self.topology.name(site))
        netns.ip("link", "set", "to-client", "down", namespace=self.topology.name("b"))
        client = self.topology.name("client")

        def reached():
            with netns.made_in(client, lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as probe:
                probe.settimeout(1)
                return probe.connect_ex((netns.GUEST_ADDRESS, 9)) in (0, 111)  # refused is an answer, too

        wait.until("the guest's address answers at a", reached)
        netns.ip("link", "set", "to-client", "down", namespace=self.topology.name("a"))
        self.assertFalse(reached())
        netns.ip("link", "set", "to-client", "up", namespace=self.topology.name("b"))
        wait.until("the guest's address answers at b", reached)

    def test_port_forward_into_a_site(self):
        listener = netns.made_in(self.topology.name("a"), lambda: socket.create_server(("127.0.0.1", 0)))
        self.addCleanup(listener.close)
        serve_echo(listener)
        forward = self.owned(PortForward(self.topology.name("a"), listener.getsockname()))
        with socket.create_connection(("127.0.0.1", forward.port), timeout=5) as connection:
            self.exchange(connection)

    def test_taps(self):
        self.topology.add_tap("a", "tap-test")
        self.assertIn("tap-test", netns.ip("link", namespace=self.topology.name("a")))


class Cleaning(case.Case):
    def test_nothing_is_left(self):
        topology = netns.Topology()
        names = [topology.name(role) for role in topology.ROLES]
        topology.close()
        self.assertFalse(set(names) & set(os.listdir("/run/netns")))

    def test_sweep_takes_only_what_is_dead(self):
        gone = subprocess.Popen(["true"])
        gone.wait()
        dead, alive = f"{netns.PREFIX}{gone.pid}-a", f"{netns.PREFIX}{os.getpid()}-keep"
        for name in (dead, alive):
            netns.ip("netns", "add", name)
        try:
            netns.sweep()
            left = os.listdir("/run/netns")
            self.assertNotIn(dead, left)
            self.assertIn(alive, left)
        finally:
            netns.ip("netns", "delete", alive)

    def test_processes_end_with_their_id(self):
        sleeper = process.Process("sleeper", ["sleep", "1000"], self.path("sleeper.log"))
        self.assertTrue(sleeper.running())
        self.assertEqual(sleeper.kill(), -9)
        self.assertFalse(os.path.exists(f"/proc/{sleeper.pid}"))
        sleeper.discard()

    def test_waiting_names_what_did_not_come(self):
        with self.assertRaisesRegex(wait.NeverCame, "the moon"):
            wait.until("the moon", lambda: False, seconds=0.05)


if __name__ == "__main__":
    unittest.installHandler()
    case.main()
