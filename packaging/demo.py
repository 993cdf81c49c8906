"""The demo itself; packaging/demo builds and calls it."""

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "tests", "system"))
from lib import guests, netns, process, requirements, wait, paths  # noqa: E402  pylint: disable=wrong-import-position
from lib.credentials import Credentials  # noqa: E402  pylint: disable=wrong-import-position
from lib.pair import LedgerClient, Pair  # noqa: E402  pylint: disable=wrong-import-position
from lib.port_forward import PortForward  # noqa: E402  pylint: disable=wrong-import-position
from lib.tiebreaker import Tiebreaker  # noqa: E402  pylint: disable=wrong-import-position
from lib.wan import Wan  # noqa: E402  pylint: disable=wrong-import-position

WEB_PORT = 8080


def say(text):
    print(f"demo: {text}", file=sys.stderr, flush=True)


class Failed(Exception):
    """What the demo is about did not happen."""


class Stage:
    """Everything that runs, in the order to end it."""

    def __init__(self, options):
        self.options = options
        self.folder = tempfile.mkdtemp(prefix="antipode-demo-")
        self.things = []
        say("three sites and the line between them")
        self.topology = self.own(netns.Topology())
        self.wan = self.own(Wan(self.topology, os.path.join(self.folder, "wan.log"), seed=options.seed))
        self.wan.set("a<->b", delay_ms=options.delay_ms, rate_mbytes=options.rate_mbytes)
        for site in ("a", "b"):
            self.wan.set(f"{site}<->t", delay_ms=options.delay_ms)
        self.credentials = Credentials(os.path.join(self.folder, "credentials"))
        self.guest = guests.by_name(options.guest)
        if self.guest is None:
            raise Failed("the Linux guest is not built (without --no-build it is)")
        self.tiebreaker = self.own(Tiebreaker(self.topology, self.wan, os.path.join(self.folder, "tiebreaker"), self.credentials))
        self.pair = self.own(Pair(self.topology, self.wan, self.folder, self.guest, self.credentials, name="demo"))

    def own(self, thing):
        self.things.append(thing)
        return thing

    def start_web(self):
        for site in (self.pair.a, self.pair.b):
            namespace = self.topology.name(site.letter)
            web = process.Process(
                f"web at {site.name}",
                [paths.program("antipode-web"), "--listen", f"127.0.0.1:{WEB_PORT}", "--control", os.path.dirname(site.socket)],
                os.path.join(self.folder, f"web-{site.letter}.log"), namespace=namespace)
            self.things.append(web)
            forward = self.own(PortForward(namespace, ("127.0.0.1", WEB_PORT)))
            say(f"the page of {site.name}: http://127.0.0.1:{forward.port}/")

    def close(self):
        for thing in reversed(self.things):
            try:
                thing.close() if hasattr(thing, "close") else thing.discard()
            except Exception as error:  # pylint: disable=broad-except
                say(f"while cleaning up: {error}")
        if self.options.keep:
            say(f"disks and logs are in {self.folder}")
        else:
            shutil.rmtree(self.folder, ignore_errors=True)


class NetworkWitness:
    """A client whose requests the guest answers only when they are on its disk."""

    def __init__(self, stage):
        self.stage = stage
        self.client = stage.own(LedgerClient(stage.pair))

    def begin(self):
        self.client.wait_for_acknowledged(5, seconds=60)

    def count(self):
        return self.client.acknowledged()

    def describe(self):
        """What the guest last answered, in words."""
        answer = self.client.last_answer()
        if answer is None:
            return f"{self.count()} requests"
        uptime = f", guest uptime {answer['uptime_ms'] / 1000:.2f} s" if answer["uptime_ms"] is not None else ""
        return f"{self.count()} requests, the last in {answer['rtt_ms']:.0f} ms{uptime}"

    def how(self):
        return "the same TCP connection" if self.client.transport == "tcp" else "the same UDP port"

    def wait_beyond(self, count, seconds):
        self.client.wait_for_acknowledged(count + 1, seconds)

    def finish(self, survivor):
        """(acknowledged, lost, duplicated, longest silence in ms, what is wrong)."""
        code, summary = self.client.stop()
        wrong = []
        if code != 0:
            wrong.append(f"the client says: {self.client.process.output().strip()[-300:]}")
        if self.client.transport == "tcp" and summary.get("connection") != "kept":
            wrong.append("the TCP connection broke")
        if summary.get("uptime_steps_back"):
            wrong.append("the guest's uptime stepped back")
        survivor.process.stop()
        acknowledged, lost, duplicated, sound, text = guests.check_ledger(survivor.disk, [self.client.log])
        if not sound:
            wrong.append(text.strip())
        return acknowledged, lost, duplicated, summary.get("longest_silence_ms", 0), wrong


class ConsoleWitness:
    """For guests that talk to nobody: what the primary's console has shown must be on the survivor's."""

    def __init__(self, stage):
        self.stage = stage
        self.seen = ""
        self.offset = 0
        self.times = []

    def _poll(self, site):
        from lib import control  # pylint: disable=import-outside-toplevel
        reply = control.call(site.socket, "console", after=self.offset)
        if reply["text"]:
            self.times.append(time.monotonic())
        if site is self.stage.pair.a:
            self.seen += reply["text"]
            self.offset = reply["end"]
        return reply["text"]

    def begin(self):
        self.stage.pair.a.wait_for_console(self.stage.guest.ready, seconds=30)

    def count(self):
        try:
            self._poll(self.stage.pair.a)
        except OSError:
            pass
        return self.seen.count("\n")

    def describe(self):
        self.count()
        site = self.stage.pair.a if self.stage.pair.a.process.running() else self.stage.pair.b
        lines = site.console().strip().splitlines()
        return f"{len(lines)} lines, the last: {lines[-1] if lines else ''}"

    def how(self):
        return "the same console"

    def wait_beyond(self, _count, seconds):
        survivor = self.stage.pair.b
        before = survivor.status()["vm"]["console_tail"]
        wait.until("the console of the survivor goes on", lambda: survivor.status()["vm"]["console_tail"] != before, seconds)

    def finish(self, survivor):
        shown = [line for line in self.seen.split("\n")[:-1] if line]
        text = survivor.console()
        lines = [line for line in text.split("\n") if line]
        # Only the tail is kept at a site: look at what both know.
        first = next((index for index, line in enumerate(shown) if line in lines), len(shown))
        lost = [line for line in shown[first:] if line not in lines]
        duplicated = len(lines) - len(set(lines))
        wrong = [f"the survivor's console lacks: {line}" for line in lost[:5]]
        if first == len(shown):
            wrong.append("the two consoles have nothing in common")
        survivor.process.stop()
        return len(shown), len(lost), duplicated, None, wrong


def run(options):
    stage = Stage(options)
    try:
        return play(stage, options)
    except (wait.NeverCame, AssertionError, Failed) as error:
        say(f"failed: {error}")
        if options.check:
            for site in (stage.pair.a, stage.pair.b) if hasattr(stage, "pair") else ():
                if site.process:
                    print(f"--- log of {site.name}\n{site.process.output()[-3000:]}", file=sys.stderr)
        return 1
    finally:
        stage.close()


def play(stage, options):
    pair = stage.pair
    say(f"starting {stage.guest.name} at {pair.a.name}, its backup at {pair.b.name}")
    if not options.check:
        stage.start_web()
    pair.start(seconds=60)
    witness = (NetworkWitness if stage.guest.network else ConsoleWitness)(stage)
    witness.begin()
    say(f"protected; {stage.options.delay_ms} ms each way, every answer has waited for the other site")
    end = time.monotonic() + options.seconds
    shown = 0.0
    while time.monotonic() < end:  # the demo's own time line, not a wait for anything
        witness.count()
        if time.monotonic() - shown >= 1:
            shown = time.monotonic()
            say(f"{pair.a.name}: {witness.describe()}")
        time.sleep(0.05)
    killed = time.monotonic()
    pair.a.kill()
    before = witness.count()
    say(f"kill -9 of the replicator at {pair.a.name}, after {before}")
    status = pair.b.wait_for_state("solo", seconds=30)
    live_ms = (time.monotonic() - killed) * 1000
    say(f"{pair.b.name} is live after {live_ms:.0f} ms, epoch {status['epoch']}")
    witness.wait_beyond(before, seconds=60)
    after = time.monotonic() + min(options.seconds, 3)
    while time.monotonic() < after:
        time.sleep(0.05)
    say(f"{pair.b.name}: {witness.describe()}, over {witness.how()}")
    if not options.check:
        say("the pages stay up; Ctrl-C ends the demo and checks the disk")
        try:
            signal.pause()
        except KeyboardInterrupt:
            pass
    acknowledged, lost, duplicated, silence_ms, wrong = witness.finish(pair.b)
    for sentence in wrong:
        say(f"WRONG: {sentence}")
    if acknowledged == 0:
        wrong.append("nothing was acknowledged")
    failover_ms = round(live_ms if silence_ms is None else silence_ms)
    print(f"check: acknowledged={acknowledged} lost={lost} duplicated={duplicated} failover_ms={failover_ms}", flush=True)
    return 1 if wrong or lost else 0


def main():
    parser = argparse.ArgumentParser(prog="packaging/demo")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--guest", default="linux", choices=["linux", *sorted(guests.BARE_METAL)])
    parser.add_argument("--delay-ms", type=float, default=10)
    parser.add_argument("--rate-mbytes", type=float, default=125)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    reason = requirements.missing_for_namespaces() or requirements.missing_for_guests()
    if reason:
        say(reason)
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    return run(options)


if __name__ == "__main__":
    sys.exit(main())
