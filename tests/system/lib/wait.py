"""Waiting for a condition. Never for a time: a condition that does not come is an error that names it."""

import time


class NeverCame(AssertionError):
    """A condition did not hold before its deadline."""


def until(what, condition, seconds=10.0, interval=0.01):
    """The condition's first true value. What it raises counts as "not yet" and is shown if it stays so."""
    deadline = time.monotonic() + seconds
    last = None
    while True:
        try:
            value = condition()
            if value:
                return value
            last = value
        except (OSError, ValueError, KeyError) as error:
            last = error
        if time.monotonic() >= deadline:
            raise NeverCame(f"{what}: not within {seconds} s (last: {last!r})")
        time.sleep(interval)
