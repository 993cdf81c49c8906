#!/usr/bin/env python3
"""What systemd's watchdog is told, by real processes with a NOTIFY_SOCKET of the test's: a replicator notifies while it lives,
and no longer when its core loop or its vCPU thread hangs. A thread is made to hang by stopping it alone, with ptrace."""

import ctypes
import os
import signal
import socket
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import case, guests, requirements, wait, world  # noqa: E402  pylint: disable=wrong-import-position
from lib.world_case import WorldCase  # noqa: E402  pylint: disable=wrong-import-position

requirements.require(requirements.missing_for_namespaces(), requirements.missing_for_guests())
LIMIT_SECONDS = 1.2  # as WatchdogSec=
PTRACE_CONT, PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT = 7, 17, 0x4206, 0x4207
WALL = 0x40000000  # of waitpid: a thread that is nobody's child
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long


def ptrace(request, thread, data=None):
    if libc.ptrace(request, thread, None, data) < 0:
        raise OSError(ctypes.get_errno(), f"ptrace {request:#x} of thread {thread}")


class StoppedThread:
    """One thread stands, the others of its process go on."""

    def __init__(self, thread):
        self.thread = thread
        ptrace(PTRACE_SEIZE, thread)
        ptrace(PTRACE_INTERRUPT, thread)
        self._standing()

    def _standing(self):
        while True:
            _, status = os.waitpid(self.thread, WALL)
            if status >> 16 == 128:  # PTRACE_EVENT_STOP
                return
            # A signal of its own came first (the vCPU thread is kicked by one): it gets it, and stands afterwards.
            ptrace(PTRACE_CONT, self.thread, os.WSTOPSIG(status))

    def release(self):
        ptrace(PTRACE_DETACH, self.thread)


class Notifications:
    """A socket as systemd's: what a service says of itself."""

    def __init__(self, path):
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(path)
        self.lines = []
        # Read at all times, as systemd does: a sender waits where nobody reads.
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        while True:
            try:
                self.lines += self.socket.recv(4096).decode().split("\n")
            except OSError:
                return

    def environment(self):
        return {"NOTIFY_SOCKET": self.path, "WATCHDOG_USEC": str(int(LIMIT_SECONDS * 1_000_000))}

    def beats(self):
        return self.lines.count("WATCHDOG=1")

    def wait_for_beats(self, count):
        return wait.until(f"{count} signs of life", lambda: self.beats() >= count, 30)

    def wait_for_silence(self):
        """Until nothing has been said for longer than the limit: systemd would end the service now."""

        def silent():
            before = self.beats()
            time.sleep(1.5 * LIMIT_SECONDS)  # the silence itself
            return self.beats() == before

        wait.until("no sign of life for longer than the limit", silent, 60)

    def close(self):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


class Watchdog(WorldCase):
    def setUp(self):
        super().setUp()
        self.pair = self.world.pair(guests.udp_echo(), heartbeat_ms=60)
        self.told = {}
        for site in (self.pair.b, self.pair.a):
            self.told[site.letter] = self.owned(Notifications(self.path(f"notify-{site.letter}")))
            site.start(env=self.told[site.letter].environment())
        self.pair.wait_until_protected()
        self.client = self.world.client(self.pair)
        self.client.wait_for_acknowledged(20)

    def thread_of(self, site, name):
        folder = f"/proc/{site.process.pid}/task"
        for thread in os.listdir(folder):
            with open(f"{folder}/{thread}/comm", encoding="utf-8") as file:
                if file.read().strip() == name:
                    return int(thread)
        raise AssertionError(f"no thread {name} in {site.process.name}")

    def test_it_notifies_while_it_lives(self):
        """The primary, whose guest works, and the backup, which waits for its log."""
        for site in (self.pair.a, self.pair.b):
            told = self.told[site.letter]
            told.wait_for_beats(told.beats() + 8)
            self.assertEqual(told.lines[0], "READY=1", "ready comes first")
        self.pair.a.process.stop()
        wait.until("it says that it stops", lambda: "STOPPING=1" in self.told["a"].lines, 10)

    def test_a_core_loop_that_hangs_tells_nothing(self):
        site, told = self.pair.a, self.told["a"]
        told.wait_for_beats(told.beats() + 2)
        stopped = StoppedThread(site.process.pid)
        told.beats()
        told.wait_for_silence()
        self.assertTrue(site.process.running(), "its other threads are there")
        # What systemd does then: the unit's WatchdogSignal.
        stopped.release()
        site.process.signal(signal.SIGABRT)
        self.assertEqual(site.process.finished(), -signal.SIGABRT)
        self.pair.b.wait_for_state("solo")
        self.client.wait_for_acknowledged(self.client.acknowledged() + 20)
        self.client.stop()
        world.assert_nothing_lost(self, self.pair.b, [self.client])

    def test_a_vcpu_that_hangs_tells_nothing(self):
        """The core loop lives, its heartbeats go on, and yet it does not say that all is well. It does when the thread is back."""
        site, told = self.pair.a, self.told["a"]
        told.wait_for_beats(told.beats() + 2)
        stopped = StoppedThread(self.thread_of(site, "vcpu0"))
        told.wait_for_silence()
        site.process.wait_for_line("the vCPU thread does not turn")
        self.assertEqual(site.status()["site"], site.name, "its core loop answers")
        stopped.release()
        told.wait_for_beats(told.beats() + 3)
        before = self.client.acknowledged()
        self.client.wait_for_acknowledged(before + 20, seconds=60)

    def test_a_process_that_stood_as_a_whole_is_not_hung(self):
        site, told = self.pair.b, self.told["b"]
        told.wait_for_beats(told.beats() + 2)
        site.process.pause()
        told.wait_for_silence()
        time.sleep(LIMIT_SECONDS)  # how long it stands is what is tried
        site.process.resume()
        told.wait_for_beats(told.beats() + 4)
        self.assertNotIn("does not turn", site.process.output())


if __name__ == "__main__":
    case.main()
