#!/usr/bin/env python3
"""Sends datagrams at a steady rate to a port where nobody answers, until it is ended: a load that does not slow down when
the guest does.

    flood.py --address 10.0.2.15:9 --bytes 1000 --rate 500"""

import argparse
import os
import socket
import time


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--address", required=True)
    parser.add_argument("--bytes", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=500, help="datagrams a second")
    arguments = parser.parse_args()
    host, port = arguments.address.rsplit(":", 1)
    payload = os.urandom(arguments.bytes)  # what no compression makes smaller
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        due = time.monotonic()
        while True:
            out.sendto(payload, (host, int(port)))
            due = max(due + 1 / arguments.rate, time.monotonic() - 1)  # a second is made up for, and no more
            time.sleep(max(0.0, due - time.monotonic()))


if __name__ == "__main__":
    main()
