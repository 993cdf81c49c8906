"""A process with its output in a file, in a network namespace if asked, ended by its id and never by a name.

It dies with the harness: PR_SET_PDEATHSIG, which survives exec and nsenter (that does not fork for a network
namespace)."""

import ctypes
import os
import signal
import subprocess

from . import wait

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def _die_with_parent():
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def in_namespace(namespace, argv):
    if namespace is None:
        return list(argv)
    return ["nsenter", f"--net=/run/netns/{namespace}", "--", *argv]


class Process:
    def __init__(self, name, argv, log, namespace=None, stdin=subprocess.DEVNULL, stdout=None, env=None):
        self.name = name
        self.argv = list(argv)
        self.log_path = log
        self._log = open(log, "ab")
        full_env = dict(os.environ, **(env or {}))
        self._popen = subprocess.Popen(
            in_namespace(namespace, argv), stdin=stdin, stdout=stdout if stdout is not None else self._log,
            stderr=self._log, env=full_env, preexec_fn=_die_with_parent, start_new_session=True)

    @property
    def pid(self):
        return self._popen.pid

    @property
    def stdin(self):
        return self._popen.stdin

    @property
    def stdout(self):
        return self._popen.stdout

    def exit_code(self):
        """The exit code, negative for a signal; None while it runs."""
        return self._popen.poll()

    def running(self):
        return self.exit_code() is None

    def signal(self, number):
        if self.running():
            self._popen.send_signal(number)

    def kill(self):
        """SIGKILL, as a site's loss would be; returns when it is gone."""
        self.signal(signal.SIGKILL)
        return self._popen.wait()

    def pause(self):
        self.signal(signal.SIGSTOP)

    def resume(self):
        self.signal(signal.SIGCONT)

    def stop(self, seconds=10):
        """SIGTERM, then SIGKILL to what does not listen; the exit code."""
        self.signal(signal.SIGTERM)
        try:
            return self._popen.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} did not end within {seconds} s of SIGTERM") from None

    def finished(self, seconds=10):
        """Waits for the end; the exit code."""
        try:
            return self._popen.wait(seconds)
        except subprocess.TimeoutExpired:
            raise wait.NeverCame(f"{self.name} still runs after {seconds} s") from None

    def output(self):
        self._log.flush()
        with open(self.log_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def wait_for_line(self, text, seconds=10):
        """The first line of the log that contains the text."""

        def find():
            lines = [line for line in self.output().splitlines() if text in line]
            if not lines and not self.running():
                raise AssertionError(f"{self.name} ended with {self.exit_code()} before '{text}':\n{self.output()[-2000:]}")
            return lines[0] if lines else None

        return wait.until(f"'{text}' in the log of {self.name}", find, seconds)

    def discard(self):
        """The end, whatever its state."""
        if self.running():
            self.kill()
        for stream in (self._popen.stdin, self._popen.stdout):
            if stream:
                stream.close()
        self._log.close()


def run(argv, namespace=None, seconds=60, check=True, env=None):
    """Runs to the end; the CompletedProcess with text output. A failure shows what was said."""
    done = subprocess.run(in_namespace(namespace, argv), capture_output=True, text=True, timeout=seconds,
                          env=dict(os.environ, **(env or {})), check=False)
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(argv)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done
