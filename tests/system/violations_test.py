#!/usr/bin/env python3
"""A promise that a test has seen broken fails the next run of that test as well, whatever it finds; any other failure does not."""

import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import case  # noqa: E402  pylint: disable=wrong-import-position

PROGRAM = """import os, sys
sys.path.insert(0, {lib!r})
from lib import case, violations

class Sometimes(case.Case):
    def test_it(self):
        first = not os.path.exists({mark!r})
        open({mark!r}, "w").close()
        if {promise}:
            with violations.kept():
                self.assertFalse(first, "both sites went on, round 7")
        self.assertFalse(first, "the machine was busy")

case.main()
"""


class Violations(case.Case):
    def setUp(self):
        super().setUp()
        self.kept = tempfile.mkdtemp(dir=self.folder)

    def program(self, name, promise):
        path = self.path(f"{name}_test.py")
        with open(path, "w", encoding="utf-8") as file:
            file.write(PROGRAM.format(lib=os.path.dirname(os.path.abspath(__file__)), mark=self.path(f"{name}.mark"), promise=promise))
        return path

    def run_twice(self, path, **environment):
        return [subprocess.run([sys.executable, "-B", path], env={**os.environ, **environment}, text=True, capture_output=True, check=False)
                for _ in range(2)]

    def test_a_broken_promise_stays_broken(self):
        first, second = self.run_twice(self.program("promise", True), ANTIPODE_VIOLATIONS=self.kept)
        self.assertEqual(first.returncode, 1)
        self.assertEqual(second.returncode, 1)
        self.assertIn("both sites went on, round 7", second.stderr, "with what the first run has found")

    def test_what_a_busy_machine_fails_is_forgiven(self):
        first, second = self.run_twice(self.program("busy", False), ANTIPODE_VIOLATIONS=self.kept)
        self.assertEqual((first.returncode, second.returncode), (1, 0), second.stderr)

    def test_each_program_answers_for_itself(self):
        self.run_twice(self.program("promise", True), ANTIPODE_VIOLATIONS=self.kept)
        _, second = self.run_twice(self.program("busy", False), ANTIPODE_VIOLATIONS=self.kept)
        self.assertEqual(second.returncode, 0, second.stderr)

    def test_by_hand_nothing_is_kept(self):
        first, second = self.run_twice(self.program("hand", True), ANTIPODE_VIOLATIONS="")
        self.assertEqual((first.returncode, second.returncode), (1, 0), second.stderr)


if __name__ == "__main__":
    case.main()
