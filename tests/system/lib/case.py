"""A unittest case for system tests: a directory and a list of things to end, logs shown when it fails, and an exit
code that ctest understands (77: nothing could run here)."""

import os
import re
import shutil
import sys
import tempfile
import unittest

from . import requirements, violations


SANITIZER = re.compile(r"(Thread|Address|Leak|UndefinedBehavior)Sanitizer|: runtime error: ")


class Case(unittest.TestCase):
    LOG_TAIL_LINES = 40

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="antipode-test-")
        self.addCleanup(self._keep_or_remove)
        self.addCleanup(self._nothing_from_a_sanitizer)  # once everything has ended

    def _failed(self):
        outcome = getattr(self, "_outcome", None)
        result = getattr(outcome, "result", None)
        return any(test is self for test, _ in (result.failures + result.errors)) if result else True

    def _logs(self):
        for folder, _, names in sorted(os.walk(self.folder)):
            yield from (os.path.join(folder, name) for name in sorted(names) if name.endswith(".log"))

    def _nothing_from_a_sanitizer(self):
        for path in self._logs():
            with open(path, encoding="utf-8", errors="replace") as file:
                found = next((line for line in file if SANITIZER.search(line)), None)
            self.assertIsNone(found, path)

    def _keep_or_remove(self):
        # Runs last, after everything started by the test has been ended.
        failed = self._failed() or not getattr(getattr(self, "_outcome", None), "success", True)
        if not failed:
            shutil.rmtree(self.folder, ignore_errors=True)
            return
        for path in self._logs():
            self._show_tail(path)
        print(f"--- everything is kept in {self.folder}", flush=True)

    def _show_tail(self, path):
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()[-self.LOG_TAIL_LINES:]
        print(f"--- {path}")
        for line in lines:
            print(f"    {line}")

    def path(self, *parts):
        path = os.path.join(self.folder, *parts)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return path

    def owned(self, thing):
        """Ends it (close or discard) when the test ends."""
        self.addCleanup(thing.close if hasattr(thing, "close") else thing.discard)
        return thing


def say_what_failed(result):
    """A line for each failure, at the very end: who captures the output keeps its end, and may cut what is before."""
    sys.stdout.flush()
    for test, trace in result.errors + result.failures:
        print(f"FAILED {test.id()}: {trace.strip().splitlines()[-1]}", file=sys.stderr, flush=True)


def main():
    violations.fail_if_found()
    program = unittest.main(module="__main__", exit=False, verbosity=2)
    result = program.result
    say_what_failed(result)
    if not result.wasSuccessful():
        sys.exit(1)
    if result.testsRun == 0 or len(result.skipped) == result.testsRun:
        sys.exit(requirements.SKIPPED)
    sys.exit(0)
