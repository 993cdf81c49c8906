#!/usr/bin/env python3
# bench-targets: wan_link antipode-replicator antipode-dump antipode-ca antipode-tiebreaker
"""What the log of an idle Linux guest takes of the line: bytes a second each way as the line emulator sees them (TCP payload:
frames, CURVE and ZeroMQ included), by type of frame, and log entries by kind. Needs network namespaces (root) and the Linux
guest; `channel_idle.py GUEST` takes another guest of tests/system/lib/guests.py."""

import os
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "system"))
from lib import guests, netns, paths, requirements, world  # noqa: E402  pylint: disable=wrong-import-position

SECONDS = float(os.environ.get("ANTIPODE_SECONDS", "20"))
GOAL_KBIT = 20


def main():
    guest = getattr(guests, sys.argv[1])() if len(sys.argv) > 1 else guests.linux()
    requirements.require(requirements.missing_for_namespaces(), requirements.missing_for_guests(),
                         None if guest else "the Linux guest is not built (tests/guests/linux/build)")
    with tempfile.TemporaryDirectory() as folder:
        the_world = world.World(folder, delay_ms=10)
        try:
            capture = os.path.join(folder, "capture-")
            pair = the_world.pair(guest, settings={"channel": f'capture = "{capture}{{own}}"'})
            pair.start(seconds=60)
            pair.a.wait_for_console(guest.ready, seconds=60)
            time.sleep(3)  # what a guest still does after it says that it is ready
            begin, before, first = time.monotonic(), the_world.wan.stats(), pair.a.status()
            time.sleep(SECONDS)  # the measurement
            took, after, last = time.monotonic() - begin, the_world.wan.stats(), pair.a.status()
            pair.a.process.stop()  # its capture is complete then
            pair.close()
            kbit = {}
            for way in ("a->b", "b->a"):
                grown = after["directions"][way]["stream_bytes"] - before["directions"][way]["stream_bytes"]
                kbit[way] = grown * 8 / took / 1000
            log = [next(each for each in status["link"]["classes"] if each["name"] == "log") for status in (first, last)]
            entries = last["execution"]["log_index"] - first["execution"]["log_index"]
            print(f"idle_log_line_kbit {kbit['a->b']:.1f} kbit/s goal=<={GOAL_KBIT} ratio={kbit['a->b'] / GOAL_KBIT:.3f}")
            print(f"idle_log_back_kbit {kbit['b->a']:.1f} kbit/s")
            print(f"idle_log_payload_bytes {(log[1]['sent_bytes'] - log[0]['sent_bytes']) / took:.1f} B/s")
            print(f"idle_log_compressed_bytes {(log[1]['sent_compressed_bytes'] - log[0]['sent_compressed_bytes']) / took:.1f} B/s")
            print(f"idle_log_entries {entries / took:.1f} 1/s")
            dump = subprocess.run([paths.program("antipode-dump"), "-q", "--count", "--from", str(begin), capture + netns.SITE_ADDRESS["a"]],
                                  capture_output=True, text=True, check=False)
            print(dump.stdout, dump.stderr, sep="", flush=True)
        finally:
            the_world.close()
    return 0 if kbit["a->b"] <= GOAL_KBIT else 1


if __name__ == "__main__":
    sys.exit(main())
