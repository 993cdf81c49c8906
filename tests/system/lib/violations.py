"""Broken promises: two sites that went on, something that was lost. ctest runs once more what has failed, since a busy machine can
fail a test; a promise that was broken once is broken, whatever comes of the second try. So a finding is kept in a file below
ANTIPODE_VIOLATIONS (tests/run makes the directory anew), and fails each later run of the same program there, in its own words.
Without that variable, by hand, nothing is kept."""

import contextlib
import os
import sys
import traceback


def _path():
    folder = os.environ.get("ANTIPODE_VIOLATIONS")
    if not folder:
        return None
    return os.path.join(folder, os.path.basename(sys.argv[0]) + ".txt")


def keep(finding):
    path = _path()
    if path is None:
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "a", encoding="utf-8") as file:
        file.write(finding.rstrip() + "\n")


@contextlib.contextmanager
def kept(kind=AssertionError):
    """What is asserted within is a promise."""
    try:
        yield
    except kind:
        keep(traceback.format_exc())
        raise


def found():
    """What earlier runs of this program have found, or ""."""
    path = _path()
    if path is None or not os.path.exists(path):
        return ""
    with open(path, encoding="utf-8") as file:
        return file.read()


def fail_if_found():
    """At the beginning of a program: ends it if an earlier run has seen a promise broken."""
    finding = found()
    if finding:
        sys.exit(f"FAILED: an earlier run of this program has seen a promise broken, which no other run undoes:\n{finding}")
