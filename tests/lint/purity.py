#!/usr/bin/env python3
"""purity.py ARCHIVE...: the object code of a pure library asks for no clock, thread, socket, file or chance.

The include rule looks at the text; this looks at what the linker sees, so that nothing comes in through a header.
"""

import re
import subprocess
import sys

FORBIDDEN = re.compile(
    r"^(clock_gettime|clock_nanosleep|nanosleep|gettimeofday|time|pthread_create|pthread_mutex_lock|pthread_cond_.*"
    r"|socket|connect|bind|send|sendto|sendmsg|recv|recvfrom|recvmsg|open|open64|openat|read|write|pread.*|pwrite.*|fsync"
    r"|fdatasync|ioctl|mmap.*|epoll_.*|poll|eventfd|rand|random|getrandom|zmq_.*|sqlite3_.*|nbd_.*|SSL_.*"
    r"|_ZNSt6chrono3_V21[0-9]+(system|steady)_clock3nowEv|_ZNSt6thread.*|_ZNSt13random_device.*|_ZN5boost4asio.*)$")


def undefined(archive):
    """(object, symbol) of what each object of the archive takes from elsewhere."""
    listing = subprocess.run(["nm", "-A", "-u", archive], capture_output=True, text=True, check=True).stdout
    for line in listing.splitlines():
        place, _, symbol = line.rpartition(" U ")
        if place:
            yield place.split(":")[-2].strip(), symbol.strip().split("@")[0]


def main(archives):
    findings = 0
    for archive in archives:
        for unit, symbol in undefined(archive):
            if FORBIDDEN.match(symbol):
                findings += 1
                print(f"{archive}: {unit} uses {symbol}")
    print(f"purity: {findings} findings in {len(archives)} libraries")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
