#!/usr/bin/env python3
"""Writes the guest's initramfs: a newc cpio archive with /init, /proc and /dev/console.

    make_initramfs.py INIT OUTPUT

The archive is a function of INIT alone (no times, no owners, fixed inode numbers), and needs no root for
the device node, which is why this is not `cpio -o`.
"""
import stat
import sys


def entry(number, name, mode, data=b"", device=(0, 0)):
    fields = [number, mode, 0, 0, 1, 0, len(data), 0, 0, device[0], device[1], len(name) + 1, 0]
    header = b"070701" + b"".join(b"%08X" % field for field in fields)
    head = header + name.encode() + b"\0"
    return head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4)


def archive(init):
    parts = [
        entry(1, "dev", stat.S_IFDIR | 0o755),
        entry(2, "dev/console", stat.S_IFCHR | 0o600, device=(5, 1)),
        entry(3, "proc", stat.S_IFDIR | 0o755),
        entry(4, "init", stat.S_IFREG | 0o755, init),
        entry(0, "TRAILER!!!", 0),
    ]
    body = b"".join(parts)
    return body + b"\0" * (-len(body) % 512)


def main():
    if len(sys.argv) != 3:
        sys.exit("usage: make_initramfs.py INIT OUTPUT")
    with open(sys.argv[1], "rb") as source:
        init = source.read()
    with open(sys.argv[2], "wb") as target:
        target.write(archive(init))


if __name__ == "__main__":
    main()
