#!/usr/bin/env python3
"""Replicated disks over stores, peers and lines that fail: nbdkit's error, delay, rate and truncate filters under each side's
store, NBD servers that go away, full file systems, a line that flips bits. Each shows a state and a reason, and loses nothing."""

import os
import random
import socket
import subprocess
import sys
import threading

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import case, process, replicated_disk, requirements, wait  # noqa: E402  pylint: disable=wrong-import-position

requirements.require(replicated_disk.missing_tools("qemu-nbd"))

MIB = 1 << 20
SIZE = 32 * MIB
SETTINGS = 'store_reconnect_ms = {reconnect}\n[replication]\nmode = "{mode}"\n{more}\n'


class BitFlipper:
    """Forwards TCP and turns one bit of what goes to the dialling side, once, after so many bytes."""

    def __init__(self, target):
        self.target = target
        self.flip_after = None
        self.flipped = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self.target))
            except ConnectionRefusedError:  # nobody there yet
                near.close()
                continue
            except OSError:
                return
            threading.Thread(target=self._forward, args=(near, far, False), daemon=True).start()
            threading.Thread(target=self._forward, args=(far, near, True), daemon=True).start()

    def _forward(self, source, target, flips):
        try:
            while data := source.recv(65536):
                if flips and self.flip_after is not None and not self.flipped.is_set():
                    self.flip_after -= len(data)
                    if self.flip_after <= 0:
                        data = bytearray(data)
                        data[len(data) // 2] ^= 1
                        self.flipped.set()
                target.sendall(data)
        except OSError:
            pass
        for end in (source, target):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            end.close()

    def close(self):
        self._listener.close()


class Faults(case.Case):
    def make(self, mode="sync", more="", size=SIZE, reconnect=30000, dial=None):
        self.pair = replicated_disk.Pair(self, self.folder, size, dial=dial)
        self.a, self.b = self.pair.sites
        self.sections = SETTINGS.format(mode=mode, more=more, reconnect=reconnect)
        for site in self.pair.sites:
            site.configure()
            self.configure(site)

    def configure(self, site, store=None):
        """The settings before the first table, the rest where it belongs."""
        top, rest = self.sections.split("[replication]", 1)
        site.configure("[replication]" + rest, store)
        with open(site.config, encoding="utf-8") as file:
            text = file.read()
        with open(site.config, "w", encoding="utf-8") as file:
            file.write(top + text)

    def serve_store(self, site, *argv, name="store"):
        """An NBD server for the site's image; its configuration names it."""
        path = os.path.join(site.folder, f"{name}.sock")
        if os.path.exists(path):
            os.unlink(path)
        command = list(argv) if argv[0] == "qemu-nbd" else ["nbdkit", "--foreground", "--exit-with-parent", *argv]
        command[1:1] = ["-k" if argv[0] == "qemu-nbd" else "-U", path]
        server = self.owned(process.Process(f"{name}-{site.letter}", command, self.path(f"{name}-{site.letter}-{random.random()}.log")))
        wait.until("the store's server listens", lambda: os.path.exists(path))
        self.configure(site, f"nbd+unix:///?socket={path}")
        return server

    def started(self, *create):
        self.pair.create(*(create or ("--both-empty",)))
        self.b.start(serve=False)
        self.a.start(serve=True)
        if create == ("--has-data",):
            self.a.ask("promote")

    def serving(self):
        """Both empty and in sync, and the first site is primary with its peer."""
        self.started()
        self.pair.wait_in_sync()
        self.a.ask("promote")
        self.pair.wait_in_sync()

    def write(self, offset, data, check=True):
        return self.a.nbdsh(f"h.pwrite({data!r} * 65536, {offset}); h.flush()", check=check)

    def read(self, offset):
        return self.a.nbdsh(f"print(bytes(h.pread(512, {offset})[:1]))").stdout.strip()

    def assert_equal_at_end(self):
        self.pair.wait_in_sync(120)
        for site in self.pair.sites:
            self.assertEqual(site.process.stop(30), 0, site.process.output())
        subprocess.run(["cmp", self.a.image, self.b.image], check=True)

    # ---- errors

    def error_store(self, site, *parameters):
        self.trigger = self.path("trigger")
        return self.serve_store(site, "--filter=error", "file", site.image, *parameters, f"error-file={self.trigger}")

    def fire(self):
        with open(self.trigger, "w", encoding="utf-8"):
            pass

    def test_error_on_the_primarys_store_detaches_and_the_peer_serves(self):
        self.make()
        self.error_store(self.a, "error=EIO", "error-rate=100%")
        self.serving()
        self.write(0, b"1")
        self.fire()
        self.write(65536, b"2")
        disk = self.a.disk()
        self.assertEqual(disk["state"], "Failed")
        self.assertIn("Input/output error", disk["reason"])
        self.assertTrue(self.a.has_event("detached"))
        self.assertEqual((self.read(0), self.read(65536)), ("b'1'", "b'2'"))
        self.assertEqual(self.b.disk()["state"], "UpToDate")
        for line in ("verify sda", "resync"):
            with self.assertRaisesRegex(replicated_disk.Refused, "has failed here"):
                self.a.ask(line)
        # A new disk in its place is filled from the peer.
        os.unlink(self.trigger)
        self.assertIn("is in use", self.a.command("create", "--replace", "sda", check=False).stderr)
        self.a.process.stop(30)
        epoch = disk["epoch"]
        self.a.command("create", "--replace", "sda")
        record = self.a.command("dump-metadata", "sda").stdout
        self.assertIn(f'"epoch":{epoch},', record)
        self.assertIn('"state":"Inconsistent"', record)
        self.assertIn("only a Failed one", self.a.command("create", "--replace", "sda", check=False).stderr)
        self.a.start(serve=True)
        self.pair.wait_in_sync()
        self.assertEqual((self.read(0), self.read(65536)), ("b'1'", "b'2'"))
        self.assert_equal_at_end()

    def test_error_on_a_read_is_served_by_the_peer(self):
        self.make()
        self.error_store(self.a, "error-pread=EIO", "error-pread-rate=100%")
        self.serving()
        self.write(0, b"1")
        self.fire()
        self.assertEqual(self.read(0), "b'1'")
        self.assertEqual(self.a.disk()["state"], "Failed")

    def test_error_is_reported_where_the_policy_says_so(self):
        self.make(more='disk_error = "report"')
        self.error_store(self.a, "error-pwrite=EIO", "error-pwrite-rate=100%")
        self.serving()
        self.fire()
        refused = self.write(0, b"1", check=False)
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn("Input/output error", refused.stderr)
        self.assertTrue(self.a.has_event("io-error"))
        self.assertEqual(self.a.disk()["state"], "UpToDate")
        os.unlink(self.trigger)
        self.write(0, b"2")
        self.assert_equal_at_end()

    def test_error_on_the_secondarys_store_leaves_the_primary_alone(self):
        self.make()
        self.error_store(self.b, "error-pwrite=EIO", "error-pwrite-rate=100%")
        self.serving()
        self.fire()
        self.write(0, b"1")
        wait.until("the primary says why it is alone", lambda: "peer's disk has failed" in self.a.status()["link_reason"])
        self.assertEqual(self.b.disk()["state"], "Failed")
        self.assertIn("Input/output error", self.b.disk()["reason"])
        self.assertGreater(self.a.disk()["marked_blocks"], 0)
        for line in ("promote", "promote force"):
            with self.assertRaisesRegex(replicated_disk.Refused, "sda is Failed"):
                self.b.ask(line)
        os.unlink(self.trigger)
        self.b.ask("invalidate")  # the same store, and it works again
        self.assert_equal_at_end()

    def test_no_space_is_told_to_the_guest_and_nothing_is_given_up(self):
        self.make()
        self.error_store(self.a, "error-pwrite=ENOSPC", "error-pwrite-rate=100%")
        self.serving()
        self.write(0, b"1")
        self.fire()
        refused = self.write(65536, b"2", check=False)
        self.assertIn("No space left", refused.stderr)
        self.assertTrue(self.a.has_event("no-space"))
        self.assertEqual(self.a.disk()["state"], "UpToDate")
        os.unlink(self.trigger)
        self.write(65536, b"3")
        self.assert_equal_at_end()

    def test_a_full_file_system_under_a_sparse_file(self):
        requirements_missing = requirements.missing_for_namespaces()
        if requirements_missing:
            self.skipTest("mounting needs root")
        self.make()
        small = self.path("small", "x")
        folder = os.path.dirname(small)
        process.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder])
        self.addCleanup(process.run, ["umount", "-l", folder])
        os.unlink(self.b.image)
        self.b.image_of = lambda disk: os.path.join(folder, "sda.img")
        self.b.make_images(SIZE)
        self.configure(self.b, self.b.image)
        self.serving()
        self.a.nbdsh("import os\nfor i in range(24): h.pwrite(os.urandom(1 << 20), i << 20)\nh.flush()")
        wait.until("the secondary says that its disk is full", lambda: "No space left" in self.b.disk()["reason"])
        self.assertEqual(self.b.disk()["state"], "Failed")
        self.assertIn("No space left", self.a.status()["link_reason"])
        self.assertGreaterEqual(self.a.disk()["marked_blocks"], 16)
        process.run(["mount", "-o", "remount,size=64m", folder])
        self.b.process.stop(30)
        self.b.command("create", "--replace", "sda")
        self.b.start(serve=False)
        self.assert_equal_at_end()

    def test_a_full_file_system_with_the_image_and_its_metadata(self):
        """The layout of whoever sets nothing: the metadata beside a sparse image. It has its room from the beginning."""
        requirements_missing = requirements.missing_for_namespaces()
        if requirements_missing:
            self.skipTest("mounting needs root")
        self.make()
        process.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", self.a.folder])
        self.addCleanup(process.run, ["umount", "-l", self.a.folder])
        self.configure(self.a)
        self.a.make_images(SIZE)
        hog = os.path.join(self.a.folder, "hog")
        with open(hog, "wb", buffering=0) as file, self.assertRaises(OSError):
            while True:
                file.write(bytes(4096))
        refused = self.a.command("create", "--both-empty", check=False)
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn("sda.img.antipode: there is no room for its", refused.stderr)
        self.assertFalse(os.path.exists(f"{self.a.image}.antipode"))
        os.unlink(hog)
        self.serving()
        filled = self.a.nbdsh("import os\nfor i in range(24): h.pwrite(os.urandom(1 << 20), i << 20)\nh.flush()", check=False)
        self.assertIn("No space left", filled.stderr)
        # What could not be written is marked, mended from here, and that is on record.
        self.pair.wait_in_sync()
        self.assertTrue(self.a.has_event("no-space"))
        process.run(["mount", "-o", "remount,size=64m", self.a.folder])
        self.write(0, b"3")
        self.assertEqual(self.read(0), "b'3'")
        self.assert_equal_at_end()

    # ---- slow ones

    def slow_peer(self, congestion):
        self.make(mode="async", more=f'congestion = "{congestion}"\nbacklog_bytes_max = 1048576', size=160 * MIB)
        self.serve_store(self.b, "--filter=delay", "file", self.b.image, "delay-write=400ms")
        self.serving()
        self.a.nbdsh("for i in range(150): h.pwrite(bytes([i + 1]) * (1 << 20), i << 20)\nh.flush()")

    def test_a_slow_peer_is_left_behind_and_catches_up(self):
        self.slow_peer("pull-ahead")
        self.assertTrue(self.a.has_event("pulled-ahead"))
        self.assert_equal_at_end()

    def test_a_slow_peer_holds_up_the_guest_where_the_policy_says_so(self):
        self.slow_peer("block")
        self.assertFalse(self.a.has_event("pulled-ahead"))
        self.assertEqual(self.a.status()["link"], "connected")
        self.assert_equal_at_end()

    def test_a_slow_store_shows_its_progress(self):
        self.make()
        with open(self.a.image, "r+b") as image:
            image.write(random.Random(1).randbytes(24 * MIB))
        self.serve_store(self.b, "--filter=rate", "file", self.b.image, "rate=20M")
        self.started("--has-data")
        disk = wait.until("there is progress", lambda: (lambda disk: disk if disk.get("seconds_left") else None)(self.a.disk()))
        self.assertLessEqual(disk["blocks_left"], disk["blocks_total"])
        self.assertEqual(self.b.disk()["state"], "Inconsistent")
        self.assert_equal_at_end()

    def test_a_store_of_the_primary_that_is_slow_to_answer(self):
        self.make()
        self.serve_store(self.a, "--filter=delay", "file", self.a.image, "delay-read=3ms", "delay-write=15ms", "delay-zero=15ms")
        self.serving()
        self.a.nbdsh("import os\nfor i in range(40): h.pwrite(os.urandom(65536), i << 17)\nh.zero(1 << 20, 1 << 20)\nh.flush()")
        self.write(5 << 17, b"s")
        self.assertEqual(self.read(5 << 17), "b's'")
        # The one that is slow is killed with writes on their way, and met again.
        client = self.owned(process.Process("client", [*replicated_disk.NBDSH, "-u", self.a.uri, "-c",
                                                       "while True: h.pwrite(b'k' * 65536, 9 << 17)"], self.path("client.log")))
        wait.until("a write is on its way", lambda: self.a.status()["changes_in_flight"] > 0)
        self.a.process.kill()
        client.finished(30)
        self.a.start(serve=True)
        self.assert_equal_at_end()

    def test_a_store_of_the_primary_that_is_slow_to_read(self):
        """It is the resync's source then."""
        self.make()
        with open(self.a.image, "r+b") as image:
            image.write(random.Random(1).randbytes(24 * MIB))
        self.serve_store(self.a, "--filter=rate", "file", self.a.image, "rate=40M")
        self.started("--has-data")
        wait.until("there is progress", lambda: self.a.disk().get("seconds_left"))
        wait.until("at the other side too", lambda: self.b.disk().get("blocks_left", SIZE) < self.b.disk().get("blocks_total", 0))
        self.write(0, b"1")
        self.assertEqual(self.read(0), "b'1'")
        self.assert_equal_at_end()

    def filtered_qcow2(self, site, name, *parameters):
        """A filter of nbdkit between us and qemu-nbd."""
        server = self.qcow2_store(site)
        behind = os.path.join(site.folder, "store.sock")
        return self.serve_store(site, f"--filter={name}", "nbd", f"socket={behind}", *parameters, name=name), server

    def test_filters_before_a_qcow2(self):
        self.make()
        self.trigger = self.path("trigger")
        servers = [*self.filtered_qcow2(self.a, "error", "error=EIO", "error-rate=100%", f"error-file={self.trigger}"),
                   *self.filtered_qcow2(self.b, "delay", "delay-write=10ms")]
        self.serving()
        self.a.nbdsh("import os\nfor i in range(24): h.pwrite(os.urandom(65536), i << 18)\nh.trim(65536, 1 << 18)\nh.flush()")
        self.fire()
        self.write(7 << 18, b"2")
        self.assertEqual(self.a.disk()["state"], "Failed")
        self.assertEqual(self.read(7 << 18), "b'2'")
        os.unlink(self.trigger)
        self.a.process.stop(30)
        self.a.command("create", "--replace", "sda")
        self.a.start(serve=True)
        self.pair.wait_in_sync(120)
        for site in self.pair.sites:
            self.assertEqual(site.process.stop(30), 0, site.process.output())
        for server in servers:
            server.stop()
        self.assert_equal_qcow2()

    def assert_equal_qcow2(self):
        compared = process.run(["qemu-img", "compare", *(os.path.join(site.folder, "sda.qcow2") for site in self.pair.sites)])
        self.assertIn("identical", compared.stdout)

    # ---- stores that change or go away

    def test_a_smaller_peer_is_refused_on_both_sides(self):
        self.make()
        self.serve_store(self.b, "--filter=truncate", "file", self.b.image, f"truncate={SIZE // 2}")
        self.started("--has-data")
        for site, words in ((self.a, (str(SIZE), f"{SIZE // 2} at the peer")), (self.b, (str(SIZE), str(SIZE // 2)))):
            reason = wait.until("the refusal", lambda site=site: (lambda status: status["link_reason"] if status["link"] == "halted" else None)(site.status()))
            for word in words:
                self.assertIn(word, reason)

    def test_a_store_that_comes_back_smaller_is_refused(self):
        self.make()
        server = self.serve_store(self.a, "file", self.a.image)
        self.serving()
        self.write(0, b"1")
        server.kill()
        self.serve_store(self.a, "--filter=truncate", "file", self.a.image, f"truncate={SIZE // 2}")
        self.write(65536, b"2")  # the peer serves
        disk = self.a.disk()
        self.assertEqual((disk["state"], disk["store_health"]), ("Failed", "failed"))
        self.assertIn("came back with", disk["reason"])
        self.assertEqual(self.read(65536), "b'2'")

    def qcow2_store(self, site):
        path = os.path.join(site.folder, "sda.qcow2")
        if not os.path.exists(path):
            process.run(["qemu-img", "create", "-q", "-f", "qcow2", path, str(SIZE)])
        return self.serve_store(site, "qemu-nbd", "--persistent", "--shared=4", "--format=qcow2", "--cache=writeback", "--discard=unmap", path)

    def test_qcow2_by_qemu_nbd_that_is_killed_and_comes_back(self):
        self.make()
        servers = {site: self.qcow2_store(site) for site in self.pair.sites}
        self.serving()
        for number, site in enumerate((self.a, self.b, self.a)):
            self.write(number * 65536, str(number).encode())
            servers[site].kill()
            pending = threading.Thread(target=self.write, args=((number + 8) * 65536, b"x"))
            pending.start()
            wait.until("the store is seen to be away", lambda site=site: site.disk()["store_health"] == "reconnecting")
            self.assertIn("connection lost", site.disk()["store_reason"])
            servers[site] = self.qcow2_store(site)
            pending.join(60)
            self.assertFalse(pending.is_alive())
            wait.until("the store is back", lambda site=site: site.disk()["store_health"] == "ok" and site.disk()["store_reconnects"] > 0)
        self.pair.wait_in_sync()
        for number in range(3):
            self.assertEqual((self.read(number * 65536), self.read((number + 8) * 65536)), (f"b'{number}'", "b'x'"))
        for site in self.pair.sites:
            self.assertEqual(site.process.stop(30), 0, site.process.output())
            servers[site].stop()
        self.assert_equal_qcow2()

    def test_a_store_that_stays_away_has_failed(self):
        self.make(reconnect=200)
        server = self.serve_store(self.a, "file", self.a.image)
        self.serving()
        server.kill()
        self.write(0, b"1")
        disk = self.a.disk()
        self.assertEqual((disk["state"], disk["store_health"]), ("Failed", "failed"))
        self.assertTrue(disk["reason"])
        self.assertEqual(self.read(0), "b'1'")

    # ---- the line

    def test_a_flipped_bit_on_the_line_is_seen_and_nothing_of_it_is_written(self):
        port = replicated_disk.free_port()
        flipper = self.owned(BitFlipper(port))
        self.make(dial=flipper.port)
        flipper.target = self.pair.port
        self.serving()
        flipper.flip_after = 2 * MIB
        self.a.nbdsh("import os\nfor i in range(16): h.pwrite(os.urandom(1 << 20), i << 20)\nh.flush()")
        self.assertTrue(flipper.flipped.is_set())
        wait.until("the reason is in the events", lambda: any("TLS" in event["text"] for event in self.b.events() if event["event"] == "link"))
        self.assert_equal_at_end()


if __name__ == "__main__":
    case.main()
