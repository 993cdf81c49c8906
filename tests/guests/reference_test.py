#!/usr/bin/env python3
"""Each guest on a machine that is not ours: QEMU's microvm under TCG, so without /dev/kvm and without our VMM.

What fails here is the guest's fault; what fails only on our VMM is the VMM's. Skipped (77) where QEMU is missing.
"""

import json
import os
import re
import selectors
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
CLIENTS = os.path.join(ROOT, "tests", "system", "clients")
QEMU = "qemu-system-x86_64"
MASK = (1 << 64) - 1

sys.path.insert(0, CLIENTS)
import ledger  # noqa: E402  (its folder has just become known)

# The hostile guest's `frame_without_header` ends QEMU 7.2 itself (an assertion in iov_copy): block only.
MACHINE = ("-M", "microvm,accel=tcg,pit=on,pic=on,rtc=on,isa-serial=on,auto-kernel-cmdline=on,acpi=off,x-option-roms=off",
           "-global", "virtio-mmio.force-legacy=false", "-cpu", "qemu64,-x2apic,-apic", "-m", "32", "-nodefaults",
           "-no-user-config", "-display", "none", "-serial", "stdio", "-no-reboot")


class Machine:
    """One run of a guest, with a disk and a network card; the guest's port 7 is reachable on loopback ports."""

    def __init__(self, folder, kernel, arguments="", initrd=None, disk=None):
        self.console = ""
        monitor = os.path.join(folder, "qmp")
        with open(disk, "ab"):
            pass
        command = [QEMU, *MACHINE, "-kernel", kernel, "-append", arguments,
                   "-drive", f"file={disk},format=raw,if=none,id=disk", "-device", "virtio-blk-device,drive=disk",
                   "-netdev", "user,id=net,hostfwd=tcp:127.0.0.1:0-:7,hostfwd=udp:127.0.0.1:0-:7",
                   "-device", "virtio-net-device,netdev=net", "-qmp", f"unix:{monitor},server=on,wait=off"]
        if initrd:
            command += ["-initrd", initrd]
        # pylint: disable=consider-using-with
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.process.stdout, selectors.EVENT_READ)
        self.monitor = monitor

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.selector.close()

    def wait_for(self, text, seconds=60.0):
        """The console so far, once it holds `text`."""
        deadline = time.monotonic() + seconds
        while text not in self.console:
            if not self.selector.select(max(0.0, deadline - time.monotonic())):
                raise AssertionError(f"no `{text}` within {seconds} s:\n{self.console}")
            data = os.read(self.process.stdout.fileno(), 65536)
            if not data:
                raise AssertionError(f"QEMU ended without `{text}`:\n{self.console}")
            self.console += data.decode(errors="replace").replace("\r", "")
            if "EXIT-FAILURE" in self.console and "EXIT-FAILURE" not in text:
                raise AssertionError(self.console)
        return self.console

    def end(self):
        """The whole console of a guest that ends with EXIT-SUCCESS."""
        return self.wait_for("EXIT-SUCCESS\n")

    def ports(self):
        """(TCP port, UDP port) on loopback that lead to the guest's port 7."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(30)
            connection.connect(self.monitor)
            with connection.makefile("rw") as lines:
                lines.readline()
                for request in ({"execute": "qmp_capabilities"},
                                {"execute": "human-monitor-command", "arguments": {"command-line": "info usernet"}}):
                    lines.write(json.dumps(request) + "\n")
                    lines.flush()
                    answer = json.loads(lines.readline())
        found = dict(re.findall(r"(TCP|UDP)\[HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(\d+)", answer["return"]))
        return int(found["TCP"]), int(found["UDP"])


class GuestTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.disk = os.path.join(self.folder, "disk")
        with open(self.disk, "wb") as file:
            file.truncate(1 << 20)

    def bare_metal(self, name, arguments=""):
        kernel = os.path.join(os.environ["ANTIPODE_BUILD_DIR"], "guests", f"{name}.elf")
        return Machine(self.folder, kernel, arguments, disk=self.disk)

    def disk_bytes(self):
        with open(self.disk, "rb") as file:
            return file.read()

    def client(self, port, transport, name, *options):
        done = subprocess.run(
            [sys.executable, "-B", os.path.join(CLIENTS, "ledger_client.py"), "--address", f"127.0.0.1:{port}",
             "--transport", transport, "--name", name, "--log", os.path.join(self.folder, name), *options],
            capture_output=True, text=True, timeout=100, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def check(self, *names):
        done = subprocess.run(
            [sys.executable, "-B", os.path.join(CLIENTS, "ledger_check.py"), self.disk,
             *(os.path.join(self.folder, name) for name in names)],
            capture_output=True, text=True, timeout=100, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout.strip().split("\n")[-1]

    def quit(self, udp_port):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"quit", ("127.0.0.1", udp_port))


class CounterTest(GuestTest):
    def test_counts_to_the_end(self):
        with self.bare_metal("counter", "antipode.hz=200 antipode.every=10 antipode.count=50") as machine:
            console = machine.end()
        found = [int(ticks) for ticks in re.findall(r"^counter: ticks=(\d+) halts=\d+$", console, re.MULTILINE)]
        self.assertEqual(len(found), 5, console)
        self.assertEqual(found, sorted(found))
        self.assertGreaterEqual(found[-1], 50)

    def test_says_what_is_wrong_with_an_option(self):
        with self.bare_metal("counter", "antipode.hz=0") as machine:
            machine.wait_for("EXIT-FAILURE antipode.hz and antipode.every must not be 0\n")


class ComputeTest(GuestTest):
    def expected(self, pages, steps, units):
        """compute.cc's work() in other words."""
        memory, state = {}, 0x0123456789ABCDEF
        for _ in range(units * steps):
            state = (state * 0x5851F42D4C957F2D + 0x14057B7EF767814F) & MASK
            place = ((state >> 33) * pages >> 31, state >> 20 & 511)
            memory[place] = memory.get(place, 0) ^ state
            state = (state + (memory[place] >> 7)) & MASK
        return state

    def test_checksum(self):
        with self.bare_metal("compute", "antipode.hz=0 antipode.pages=100 antipode.steps=500 antipode.units=8 "
                                        "antipode.every=8") as machine:
            console = machine.end()
        self.assertIn(f"compute: units=8 ticks=0 checksum={self.expected(100, 500, 8):#x}\n", console)

    def test_takes_interrupts_while_it_works(self):
        with self.bare_metal("compute", "antipode.hz=1000 antipode.every=20") as machine:
            machine.wait_for("checksum=")
            ticks = 0
            while ticks == 0:
                machine.console = ""
                machine.wait_for("checksum=")
                machine.wait_for("\n")
                ticks = int(re.search(r"ticks=(\d+)", machine.console).group(1))

    def test_takes_interrupts_without_exits(self):
        with self.bare_metal("compute", "antipode.hz=1000 antipode.every=50 antipode.units=200 antipode.exit=0") as machine:
            console = machine.end()
        self.assertGreater(int(re.findall(r"ticks=(\d+)", console)[-1]), 0)


class DiskWriterTest(GuestTest):
    def block(self, round_, number, block_bytes):
        words = [round_, number]
        for index in range(2, block_bytes // 8):
            words.append((round_ * 0x9E3779B97F4A7C15 & MASK) ^ (number << 32) ^ (index * 0x0101010101010101 & MASK))
        return struct.pack(f"<{len(words)}Q", *words)

    def test_writes_what_it_says_and_goes_on_after_a_restart(self):
        arguments = "antipode.blocks=16 antipode.block=1024 antipode.rounds=3 antipode.overlap=1 antipode.depth=8"
        for first in (1, 4):
            with self.bare_metal("disk_writer", arguments) as machine:
                console = machine.end()
            for round_ in range(first, first + 3):
                self.assertIn(f"disk_writer: round={round_} blocks=16 errors=0\n", console)
        disk = self.disk_bytes()
        for number in range(16):
            self.assertEqual(disk[number * 1024:(number + 1) * 1024], self.block(6, number, 1024), f"block {number}")
        self.assertFalse(any(disk[16 * 1024:]))

    def test_refuses_a_disk_that_is_too_small(self):
        with self.bare_metal("disk_writer", "antipode.blocks=1000") as machine:
            machine.wait_for("EXIT-FAILURE disk_writer: the disk is too small\n")


class HostileTest(GuestTest):
    def test_the_disk_survives(self):
        with self.bare_metal("hostile", "antipode.device=block antipode.ticks=1") as machine:
            console = machine.end()
        self.assertIn("hostile: mode=descriptor_loop device=block status=0x4f needs_reset=1 used=0\n", console)
        self.assertEqual(console.count("hostile: mode="), console.count("hostile: alive mode="))


class UdpEchoTest(GuestTest):
    def test_answers_what_is_on_the_disk(self):
        for run in ("first", "second"):
            with self.bare_metal("udp_echo", "antipode.ip=10.0.2.15/24 antipode.clock_hz=20") as machine:
                machine.wait_for("udp_echo: ready")
                _, port = machine.ports()
                self.client(port, "udp", run, "--count", "150", "--window", "8")
                self.quit(port)
                machine.end()
        self.assertRegex(self.check("first", "second"), r"^acknowledged=300 lost=0 ")

    def test_limits_and_newlines(self):
        with self.bare_metal("udp_echo") as machine, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            machine.wait_for("udp_echo: ready")
            sender.connect(("127.0.0.1", machine.ports()[1]))
            sender.settimeout(30)
            # One at a time: while QEMU's network asks for the guest's MAC, it keeps one datagram.
            for sent, received in ((b"y" * 480, b"y" * 480 + b" seq=1"), (b"", b" seq=2")):
                sender.send(sent)
                self.assertEqual(sender.recv(1000), received)
            sender.send(b"x" * 481)  # no record and no answer
            sender.send(b"z\n")
            self.assertEqual(sender.recv(1000), b"z seq=3\n")
        self.assertEqual(ledger.parse(self.disk_bytes()[:512], 1)[0].payload, b"y" * 480)


class LinuxTest(GuestTest):
    def setUp(self):
        super().setUp()
        found = subprocess.run([os.path.join(HERE, "linux", "build"), "--cached"], stdout=subprocess.PIPE,
                               stderr=subprocess.DEVNULL, text=True, check=False)
        if found.returncode != 0:
            self.skipTest("the Linux guest is not built (tests/guests/linux/build)")
        self.image = found.stdout.strip().split("\n")[-1]

    def linux(self, arguments=""):
        return Machine(self.folder, os.path.join(self.image, "vmlinux"), f"console=ttyS0 quiet {arguments}",
                       os.path.join(self.image, "initramfs.cpio"), self.disk)

    def test_answers_what_is_on_the_disk(self):
        for run in (1, 2):
            with self.linux() as machine:
                machine.wait_for(f"ready ip=10.0.2.15 port=7 records={(run - 1) * 240} of=2048")
                tcp, udp = machine.ports()
                self.client(tcp, "tcp", f"tcp{run}", "--count", "120")
                self.client(tcp, "tcp", f"wide{run}", "--count", "80", "--window", "20")
                self.client(udp, "udp", f"udp{run}", "--count", "40", "--window", "4", "--timeout-ms", "20000")
                self.quit(udp)
                machine.end()
        self.assertEqual(self.check(*(f"{name}{run}" for name in ("tcp", "wide", "udp") for run in (1, 2))),
                         "acknowledged=480 lost=0 duplicated=0")

    def connect(self, port):
        connection = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.addCleanup(connection.close)
        return connection

    def line(self, connection):
        data = b""
        while not data.endswith(b"\n"):
            more = connection.recv(4096)
            self.assertNotEqual(more, b"", data)
            data += more
        return data

    def test_lines(self):
        with self.linux() as machine:
            machine.wait_for("ready")
            first, second = (self.connect(machine.ports()[0]) for _ in range(2))
            first.sendall(b"half a ")
            second.sendall(b"whole\n")
            self.assertRegex(self.line(second), rb"^whole seq=1 uptime_ms=\d+\n$")
            first.sendall(b"line\n")
            self.assertRegex(self.line(first), rb"^half a line seq=2 uptime_ms=\d+\n$")
            first.sendall(b"x" * 5000 + b"\n")
            self.assertEqual(self.line(first), b"ERR a request has 480 bytes at most\n")
            first.sendall(b"y" * 480 + b"\n")
            self.assertTrue(self.line(first).startswith(b"y" * 480 + b" seq=3 "))

    def test_a_full_disk_is_not_acknowledged(self):
        with open(self.disk, "wb") as file:
            file.truncate(3 * 512)
        with self.linux() as machine:
            machine.wait_for("records=0 of=3")
            connection = self.connect(machine.ports()[0])
            for number in (1, 2, 3):
                connection.sendall(b"r\n")
                self.assertRegex(self.line(connection), rf"^r seq={number} ".encode())
            connection.sendall(b"r\n")
            self.assertEqual(connection.recv(100), b"")
            machine.wait_for("the disk is full, records=3")

    def test_no_disk_where_one_is_wanted_to_be_none(self):
        with self.linux("antipode.disk=none antipode.ip=10.0.2.15/24 antipode.gw=10.0.2.2") as machine:
            machine.wait_for("ready")
            connection = self.connect(machine.ports()[0])
            connection.sendall(b"r\n")
            self.assertRegex(self.line(connection), rb"^r seq=0 ")
        self.assertFalse(any(self.disk_bytes()))

    def test_a_wrong_address_is_named(self):
        with self.linux("antipode.ip=10.0.2.256") as machine:
            machine.wait_for("EXIT-FAILURE antipode.ip is not an address like 10.0.2.15/24")


if __name__ == "__main__":
    if not shutil.which(QEMU):
        print(f"skipped: {QEMU} is not installed (packaging/deps)")
        sys.exit(77)
    unittest.main(verbosity=2)
