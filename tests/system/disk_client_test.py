#!/usr/bin/env python3
"""What users put on a replicated disk: random verified I/O over several connections, qemu-io, qemu-img bench, TLS by nbdkit, and a
guest that boots under QEMU and reads and writes it."""

import os
import random
import shutil
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import case, paths, process, replicated_disk, requirements, wait  # noqa: E402  pylint: disable=wrong-import-position

requirements.require(replicated_disk.missing_tools("qemu-io"))

MIB = 1 << 20
SIZE = 32 * MIB

# A boot sector: reads 4 KiB from sector 8 of the second disk, inverts them, writes them to sector 64, reads these back and
# compares, and tells QEMU's exit device.
GUEST = """
.code16
start:
    cli
    xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movw $0x7c00, %sp
    cld
    movb $0x42, %ah
    movw $read_source, %si
    call disk
    movw $0x8000, %di
    movw $2048, %cx
1:  notw (%di)
    addw $2, %di
    loop 1b
    movw $0x4300, %ax
    movw $write_target, %si
    call disk
    movb $0x42, %ah
    movw $read_back, %si
    call disk
    movw $0x8000, %si
    movw $0x9000, %di
    movw $2048, %cx
    repe cmpsw
    jne failed
    movb $0x10, %al
    outb %al, $0xf4
disk:
    movb $0x81, %dl
    int $0x13
    jc failed
    ret
failed:
    movb $0x11, %al
    outb %al, $0xf4
2:  hlt
    jmp 2b
read_source:  .byte 16, 0, 8, 0
    .word 0x8000, 0
    .quad 8
write_target: .byte 16, 0, 8, 0
    .word 0x8000, 0
    .quad 64
read_back:    .byte 16, 0, 8, 0
    .word 0x9000, 0
    .quad 64
.org 510
    .word 0xaa55
"""


class Clients(case.Case):
    def setUp(self):
        super().setUp()
        self.pair = replicated_disk.Pair(self, self.folder, SIZE)
        self.a, self.b = self.pair.sites
        self.pair.create("--both-empty")
        self.b.start(serve=False)

    def serve(self, *options):
        self.a.start(serve=True, options=options)
        self.pair.wait_in_sync()

    def assert_equal_images(self):
        self.pair.wait_in_sync()
        for site in self.pair.sites:
            self.assertEqual(site.process.stop(30), 0, site.process.output())
        process.run(["cmp", self.a.image, self.b.image])

    def exercise(self, seed, operations=4000):
        return process.run([paths.program("nbd_load"), "exercise", *[self.a.uri] * 4, "--depth", "32", "--seed", str(seed),
                            "--operations", str(operations)], seconds=120, check=False)

    def test_random_io_over_four_connections_is_verified(self):
        self.serve()
        done = self.exercise(1)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assert_equal_images()

    def test_the_exercise_finds_a_disk_that_lies(self):
        """The check of the check: a byte changed behind the plugin's back is found."""
        self.serve()
        with open(self.a.image, "r+b") as image:
            image.seek(SIZE - 1)
            image.write(b"x")
        done = self.exercise(2, operations=0)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("is not what was written", done.stderr)

    def test_random_io_while_the_peer_comes_and_goes(self):
        self.serve()
        load = self.owned(process.Process(
            "load", [paths.program("nbd_load"), "exercise", *[self.a.uri] * 4, "--depth", "32", "--operations", "40000"], self.path("load.log")))
        for _ in range(3):
            self.b.process.kill()
            wait.until("the primary is alone", lambda: self.a.status()["link"] != "connected")
            self.b.start(serve=False)
            wait.until("the primary has its peer", lambda: self.a.status()["link"] == "connected")
        self.assertEqual(load.finished(120), 0, load.output())
        self.assert_equal_images()

    def test_qemu_io_and_qemu_img_bench(self):
        self.serve()
        commands = ["write -P 0x5a 0 1M", "aio_write -P 0x77 4k 8k", "aio_flush", "write -z 64k 64k", "discard 128k 64k", "flush",
                    "read -P 0x77 4k 8k", "read -P 0 64k 128k", "read -P 0x5a 192k 64k"]
        done = process.run(["qemu-io", "-f", "raw", *(word for each in commands for word in ("-c", each)), self.a.uri])
        self.assertNotIn("Pattern verification failed", done.stdout)
        process.run(["qemu-img", "bench", "-f", "raw", "-w", "-c", "2000", "-d", "32", "-s", "4096", "--flush-interval=100", self.a.uri])
        process.run(["qemu-img", "bench", "-f", "raw", "-c", "2000", "-d", "32", "-s", "65536", self.a.uri])
        self.assert_equal_images()

    def test_tls_by_nbdkit(self):
        keys = self.path("psk", "keys.psk")
        with open(keys, "w", encoding="utf-8") as file:
            file.write("alice:" + random.Random(1).randbytes(32).hex() + "\n")
        os.chmod(keys, 0o600)
        self.serve("--tls=require", f"--tls-psk={keys}")
        uri = f"nbds+unix://alice@/sda?socket={self.a.socket}&tls-psk-file={keys}"
        process.run([*replicated_disk.NBDSH, "-c", f"h.set_uri_allow_local_file(True); h.connect_uri({uri!r}); "
                                                   "h.pwrite(b't' * 4096, 0); h.flush(); assert h.get_tls_negotiated()"])
        self.assertNotEqual(self.a.nbdsh("h.pread(512, 0)", check=False).returncode, 0)
        self.assert_equal_images()

    def test_a_guest_boots_and_uses_it(self):
        for tool in ("qemu-system-x86_64", "as", "ld"):
            if not shutil.which(tool):
                self.skipTest(f"{tool} is not installed")
        source, boot = self.path("guest.s"), self.path("boot.img")
        with open(source, "w", encoding="utf-8") as file:
            file.write(GUEST)
        process.run(["as", "--32", "-o", self.path("guest.o"), source])
        process.run(["ld", "-m", "elf_i386", "-Ttext=0x7c00", "--oformat=binary", "-e", "start", "-o", boot, self.path("guest.o")])
        with open(boot, "r+b") as file:
            file.truncate(MIB)
        self.serve()
        data = random.Random(5).randbytes(4096)
        self.a.nbdsh(f"h.pwrite({data!r}, 4096); h.flush()")
        done = process.run(
            ["qemu-system-x86_64", "-machine", "pc,accel=tcg", "-m", "64", "-nodefaults", "-display", "none", "-no-reboot",
             "-drive", f"file={boot},format=raw,if=none,id=boot", "-device", "virtio-blk-pci,drive=boot,bootindex=0",
             "-drive", f"file={self.a.uri},format=raw,if=none,id=data,cache=none,discard=unmap", "-device", "virtio-blk-pci,drive=data,bootindex=1",
             "-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"], seconds=120, check=False)
        self.assertEqual(done.returncode, 0x10 << 1 | 1, done.stderr)
        self.pair.wait_in_sync()
        with open(self.b.image, "rb") as image:
            image.seek(64 * 512)
            self.assertEqual(image.read(4096), bytes(byte ^ 0xff for byte in data))
        self.assert_equal_images()


if __name__ == "__main__":
    case.main()
