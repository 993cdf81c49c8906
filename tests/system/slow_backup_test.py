#!/usr/bin/env python3
"""A backup that gets a third of a processor: the primary's guest is slowed, not stopped; the lag stays bounded; when the
backup has its processor back, so has the guest."""

import os
import signal
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import case, guests, requirements, wait  # noqa: E402  pylint: disable=wrong-import-position
from lib.world_case import WorldCase  # noqa: E402  pylint: disable=wrong-import-position

requirements.require(requirements.missing_for_namespaces(), requirements.missing_for_guests())
PERIOD = 0.030  # below what heartbeats tolerate
RUNS = 1 / 3


class Slowed:
    """Stops and continues the vCPU's whole process in turns: a processor shared with others."""

    def __init__(self, pid):
        self.pid = pid
        self.end = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        while not self.end.is_set():
            os.kill(self.pid, signal.SIGSTOP)
            self.end.wait(PERIOD * (1 - RUNS))
            os.kill(self.pid, signal.SIGCONT)
            self.end.wait(PERIOD * RUNS)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.end.set()
        self.thread.join()
        os.kill(self.pid, signal.SIGCONT)


class SlowBackup(WorldCase):
    def test_guest_is_slowed_and_not_stopped(self):
        pair = self.world.pair(guests.compute())
        pair.start()
        pair.a.wait_for_console("units=")
        lags, throttles = [], []
        with Slowed(pair.b.process.pid):
            before = pair.a.status()["execution"]["exits"]
            for _ in range(60):
                time.sleep(0.1)  # a sample each; what is waited for is below
                status = pair.a.status()
                self.assertEqual(status["role"], "primary")
                lags.append(status["execution_lag"]["seconds"] or 0)
                throttles.append(status["execution"]["throttle_ratio"] or 0)
            self.assertGreater(pair.a.status()["execution"]["exits"], before, "the guest stands")
        self.assertGreater(max(throttles), 0.2, "the guest was not slowed")
        wait.until("the time is given back", lambda: (pair.a.status()["execution"]["throttle_ratio"] or 0) < 0.05, 30)
        pair.wait_until_protected(20)
        print(f"lag_max={max(lags):.2f} s throttle_max={max(throttles):.2f}", flush=True)
        pair.close()


if __name__ == "__main__":
    case.main()
