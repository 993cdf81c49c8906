"""Rounds of mishaps on real processes, drawn from a seed: kills, stops, cut lines and a tiebreaker that goes away. After each one
site runs the VM, the other does not, and the client was answered without a gap in what the survivor's disk holds."""

import random
import time

from . import guests, violations, wait, world

CUTS = ("a<->b", "a->b", "b->a")
MISHAPS = ("kill-primary", "kill-backup", "stop-primary", "stop-backup", "cut", "cut-and-kill")
TIEBREAKER = ("well", "well", "kill", "stop")
ANSWERS = 20
SECONDS = 60
# What a site that has lost, or has not asked yet, may be.
NOT_RUNNING = ("halted", "ended", "joining", "stopped")


class Round:
    """What happens in one round; a function of the seed and the round's number."""

    def __init__(self, seed, index):
        chance = random.Random(f"{seed}/{index}")
        self.mishap = chance.choice(MISHAPS)
        self.cut = chance.choice(CUTS)
        self.tiebreaker = chance.choice(TIEBREAKER)
        self.delays_ms = [chance.choice((0, 5, 40)) for _ in range(2)]
        self.moment = chance.uniform(0, 0.5)
        self.tiebreaker_moment = chance.uniform(-0.3, 0.3)  # before or after the mishap
        self.tiebreaker_away = chance.uniform(0.1, 1.5)
        self.window = chance.choice((1, 4, 16))

    def __str__(self):
        cut = f" {self.cut}" if self.mishap.startswith("cut") else ""
        return (f"{self.mishap}{cut} at {self.moment * 1000:.0f} ms, tiebreaker {self.tiebreaker} at "
                f"{self.tiebreaker_moment * 1000:+.0f} ms for {self.tiebreaker_away * 1000:.0f} ms, window {self.window}")


class Run:
    """One round on a fresh pair. test: a unittest.TestCase for the assertions."""

    def __init__(self, test, place, plan, index):
        self.test = test
        self.world = place
        self.plan = plan
        self.pair = place.pair(guests.udp_echo(), name=f"vm{index}", heartbeat_ms=40)
        self.stopped = None  # the site that stands still
        self.cuts = []

    def play(self):
        """(survivor, acknowledged, duplicated, longest silence in ms)"""
        place, plan, pair = self.world, self.plan, self.pair
        for site, delay in zip("ab", plan.delays_ms):
            place.wan.set(f"{site}<->t", delay_ms=delay)
        pair.start()
        client = place.client(pair, options=["--window", str(plan.window)])
        client.wait_for_acknowledged(10)
        steps = [(plan.moment, self.strike)]
        if plan.tiebreaker != "well":
            away = max(0, plan.moment + plan.tiebreaker_moment)
            steps += [(away, self.tiebreaker_goes), (away + plan.tiebreaker_away, self.tiebreaker_comes)]
        begin = time.monotonic()
        for moment, step in sorted(steps, key=lambda pair_: pair_[0]):
            time.sleep(max(0, begin + moment - time.monotonic()))  # the random moment itself
            step()
        survivor = wait.until(f"one site goes on ({plan})", self.decided, SECONDS)
        client.wait_for_acknowledged(client.acknowledged() + ANSWERS, seconds=SECONDS)
        self.wake()
        client.wait_for_acknowledged(client.acknowledged() + ANSWERS, seconds=SECONDS)
        loser = pair.other(survivor)
        if loser.process.running():
            with violations.kept():
                self.test.assertNotIn(loser.status()["state"], ("primary", "solo", "pairing"), self.plan)
        _, summary = client.stop()
        if loser.process.running():
            loser.process.stop()
        acknowledged, duplicated = world.assert_nothing_lost(self.test, survivor, [client])
        pair.close()
        return survivor, acknowledged, duplicated, summary["longest_silence_ms"]

    def strike(self):
        mishap, pair = self.plan.mishap, self.pair
        if mishap == "kill-primary":
            pair.a.kill()
        elif mishap == "kill-backup":
            pair.b.kill()
        elif mishap.startswith("stop"):
            self.stopped = pair.a if mishap == "stop-primary" else pair.b
            self.stopped.process.pause()
        else:
            self.world.wan.cut(self.plan.cut)
            self.cuts.append(self.plan.cut)
            if mishap == "cut-and-kill":
                pair.a.kill()

    def tiebreaker_goes(self):
        if self.plan.tiebreaker == "kill":
            self.world.tiebreaker.kill()
        else:
            self.world.tiebreaker.process.pause()

    def tiebreaker_comes(self):
        if self.plan.tiebreaker == "kill":
            self.world.tiebreaker.start()
        else:
            self.world.tiebreaker.process.resume()

    def wake(self):
        """What stood still goes on, what was cut is whole: nothing that was decided may change."""
        if self.stopped:
            self.stopped.process.resume()
            wait.until(f"{self.stopped.name} notices that it has lost", lambda: self.state(self.stopped) in NOT_RUNNING, SECONDS)
        for who in self.cuts:
            self.world.wan.heal(who)

    def state(self, site):
        if site is self.stopped and self.is_stopped(site):
            return "stopped"
        return site.status()["state"] if site.process.running() else "ended"

    @staticmethod
    def is_stopped(site):
        with open(f"/proc/{site.process.pid}/stat", encoding="ascii") as file:
            return file.read().rpartition(")")[2].split()[0] == "T"

    def decided(self):
        """The site that goes on alone, once the other has stopped its VM."""
        states = {site: self.state(site) for site in (self.pair.a, self.pair.b)}
        with violations.kept():
            self.test.assertNotEqual(list(states.values()), ["solo", "solo"], f"both sites went on ({self.plan})")
        for winner in states:
            if states[winner] == "solo" and states[self.pair.other(winner)] in NOT_RUNNING:
                return winner
        return None
