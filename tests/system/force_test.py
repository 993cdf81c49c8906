#!/usr/bin/env python3
"""The acts that the failover core leaves to people: a force, and the rejoining of a site that waits for a word. Real processes;
what was done must be found again in the replicator's journal and in the tiebreaker's history."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import case, control, requirements, violations, wait, world  # noqa: E402  pylint: disable=wrong-import-position
from lib.world_case import WorldCase  # noqa: E402  pylint: disable=wrong-import-position

requirements.require(requirements.missing_for_namespaces(), requirements.missing_for_guests())
BLOCK_BYTES = 64 << 10
REGION_OFFSET, REGION_BYTES = 40 << 20, 16 << 20  # of the udp_echo guest's disk
FORCED_BLOCK = 1 << 30  # epochs from here on were made by a force (common/wire/arbiter_messages.h)


class Operators(WorldCase):
    @staticmethod
    def act(site, method, **parameters):
        parameters.setdefault("confirm", site.pair.name)
        return control.call(site.socket, method, actor="test", **parameters)

    def force(self, site, **parameters):
        return self.act(site, "force", peer_is_down=True, **parameters)

    def refused(self, text, call, *arguments, **parameters):
        with self.assertRaises(control.Refused) as caught:
            call(*arguments, **parameters)
        self.assertIn(text, caught.exception.message)

    def assert_in_journal(self, site, code, text):
        events = control.call(site.socket, "events", limit=256)["events"]
        self.assertTrue(any(event["code"] == code and text in event["text"] for event in events),
                        f"no {code} with '{text}' in {[(event['code'], event['text']) for event in events]}")

    def finished(self, site, operation, state, text=""):
        """The operation's end is as expected: what was asked for is over when it is over, not when it was asked for."""
        ended = wait.until(f"operation {operation} ends", lambda: next(
            (each for each in site.status()["operations"] if each["id"] == operation and each["state"] != "running"), None), 60)
        self.assertEqual(ended["state"], state, ended)
        self.assertIn(text, ended["text"])

    def decisions(self, pair, kind):
        """The lines of the tiebreaker's history that are of this kind and moved the record."""
        return [line for line in self.world.tiebreaker.admin("history", pair.name).splitlines() if f" {kind} " in line and "->" in line]

    def frozen(self, pair):
        """The primary and the tiebreaker are lost; the backup waits."""
        self.world.tiebreaker.kill()
        pair.a.kill()
        pair.b.wait_for_state("waiting")
        self.wait_until_unreachable(pair.b)

    def parted(self, pair):
        """The line between the sites is cut: (who goes on, who halts)."""
        self.world.wan.cut("a<->b")
        winner = wait.until("one goes on", lambda: next(
            (site for site in (pair.a, pair.b) if site.status()["state"] == "solo"), None), 30)
        loser = pair.other(winner)
        loser.wait_for_state("halted")
        return winner, loser

    @staticmethod
    def wait_until_unreachable(site):
        """A force is refused as long as anything is heard of the peer."""

        def lost():
            link = site.status()["link"]
            return not link["session_up"] and not link["heartbeat_up"]

        wait.until(f"nothing is heard at {site.name}", lost, 60)

    def finish(self, pair, client):
        before = client.acknowledged()
        client.wait_for_acknowledged(before + 20, seconds=60)
        client.stop()
        survivor = pair.primary()
        other = pair.other(survivor)
        if other.process.running():
            other.process.stop()
        world.assert_nothing_lost(self, survivor, [client])

    def test_a_frozen_backup_is_forced(self):
        pair, client = self.loaded_pair()
        self.frozen(pair)
        before = client.acknowledged()
        self.refused("confirm", self.force, pair.b, confirm="another")
        self.refused("peer_is_down", self.act, pair.b, "force")
        self.assertFalse(self.act(pair.b, "force", check=True)["allowed"])
        seen = self.act(pair.b, "force", check=True, peer_is_down=True)
        self.assertTrue(seen["allowed"], seen)
        self.assertEqual(pair.b.status()["state"], "waiting", "what is only looked at is not done")
        self.assertEqual(client.acknowledged(), before)

        operation = self.force(pair.b, note="site-a has burnt down")["operation"]
        pair.b.wait_for_state("solo")
        self.finished(pair.b, operation, "succeeded")
        epoch = pair.b.status()["epoch"]
        self.assertGreaterEqual(epoch, FORCED_BLOCK, "an epoch like any other, and above any grant")
        client.wait_for_acknowledged(before + 20, seconds=60)
        self.assert_in_journal(pair.b, "forced", "force asked by test: site-a has burnt down")
        self.assertTrue(any("forced_unconfirmed" in alert["text"] for alert in pair.b.status()["alerts"]))

        self.world.tiebreaker.start()
        wait.until("the tiebreaker knows of the force", lambda: self.decisions(pair, "report_force"), 30)
        line = self.decisions(pair, "report_force")[-1]
        self.assertIn(str(epoch), line)
        self.assertIn("me site-b", line)
        self.assertIn("BY AN OPERATOR'S FORCE", line)
        wait.until("the alert is over",
                   lambda: not any("forced_unconfirmed" in alert["text"] for alert in pair.b.status()["alerts"]), 30)
        # The site that was believed dead comes back, learns of it, and becomes the backup.
        pair.a.start()
        pair.wait_until_protected(60)
        self.assertIs(pair.primary(), pair.b)
        self.finish(pair, client)

    def test_a_force_is_refused_where_the_peer_can_be_reached(self):
        pair, client = self.loaded_pair()
        for site in (pair.a, pair.b):
            self.refused("", self.force, site)
            self.assertFalse(self.act(site, "force", check=True, peer_is_down=True)["allowed"])
        # The line is cut, and one wins. The other cannot see it, but the tiebreaker does.
        winner, loser = self.parted(pair)
        epoch = winner.status()["epoch"]
        self.wait_until_unreachable(loser)
        operation = self.force(loser)["operation"]  # this site can see nothing against it; the tiebreaker does
        self.finished(loser, operation, "failed", "in touch with the peer")
        wait.until("the tiebreaker's refusal is in the journal", lambda: any(
            "in touch with the peer" in event["text"]
            for event in control.call(loser.socket, "events", limit=256)["events"]), 30)
        before = client.acknowledged()
        client.wait_for_acknowledged(before + 50)
        self.assertEqual(loser.status()["state"], "halted")
        self.assertEqual((winner.status()["state"], winner.status()["epoch"]), ("solo", epoch))
        self.assertEqual(self.decisions(pair, "force"), [])
        self.world.wan.heal("a<->b")
        pair.wait_until_protected(60)
        self.finish(pair, client)

    def test_a_copy_that_may_lack_writes_is_forced_by_another_word(self):
        """The backup's process is lost as well: its disk is behind what was acknowledged. The word about the peer says nothing of
        that; what is only looked at says what would be refused."""
        pair, client = self.loaded_pair()
        self.frozen(pair)
        pair.b.kill()
        pair.b.start()
        wait.until("it answers", pair.b.status, 30)
        self.wait_until_unreachable(pair.b)
        self.assertEqual({disk["state"] for disk in pair.b.status()["disks"]}, {"inconsistent"})
        seen = self.act(pair.b, "force", check=True, peer_is_down=True)
        self.assertFalse(seen["allowed"])
        self.assertIn("may lack acknowledged writes", str(seen["findings"]))
        self.refused("may lack acknowledged writes", self.force, pair.b)
        self.assertTrue(self.act(pair.b, "force", check=True, peer_is_down=True, accept_loss=True)["allowed"])
        self.refused("peer_is_down", self.act, pair.b, "force", accept_loss=True)
        self.force(pair.b, accept_loss=True)
        pair.b.wait_for_state("solo")
        before = client.acknowledged()
        client.wait_for_acknowledged(before + 20, seconds=60)
        client.stop()

    def test_a_loser_whose_copy_has_begun(self):
        """It kept its VM's memory until the winner began to seed it. When the winner is lost in the middle of that, there is no
        memory left, and no whole disk: the word that accepts a loss is asked for, and what runs then was booted."""
        pair, client = self.loaded_pair()
        winner, loser = self.parted(pair)
        self.world.wan.set("a<->b", rate_mbytes=0.2)  # so that the copy is not complete before the winner is lost
        self.world.wan.heal("a<->b")
        wait.until("the copy begins", lambda: any(event["code"] == "seed_started" for event in loser.events()), 60)
        winner.kill()
        wait.until("it is not seeded any more", lambda: any("halting -> halted" in event["text"] and "seed us is gone" in event["text"]
                                                             for event in loser.events()), 60)
        self.wait_until_unreachable(loser)
        self.refused("may lack acknowledged writes", self.force, loser)
        before = client.acknowledged()
        self.force(loser, accept_loss=True)
        loser.wait_for_state("solo")
        client.wait_for_acknowledged(before + 20, seconds=60)
        self.assertTrue(any(event["code"] == "vm_started" for event in loser.events()), "booted, not resumed")
        client.stop()

    def test_a_copy_that_broke_off_is_taken_back(self):
        """What the loser had on its disk is there again when it is forced, although half of it had been overwritten, and although
        its process was killed meanwhile."""
        pair, client = self.loaded_pair()
        client.stop()
        winner, loser = self.parted(pair)
        loser.process.stop()
        # In a place of the disk that the guest has no use for.
        random = {site: os.urandom(REGION_BYTES) for site in (winner, loser)}
        for site, content in random.items():
            self.write_region(site, content)
        self.world.wan.set("a<->b", rate_mbytes=4)
        self.world.wan.heal("a<->b")
        loser.start()

        def blocks_of(site):
            held = self.read_region(loser)
            return sum(held[at:at + BLOCK_BYTES] == random[site][at:at + BLOCK_BYTES] for at in range(0, REGION_BYTES, BLOCK_BYTES))

        wait.until("a part of the disk is overwritten", lambda: blocks_of(winner) >= 20, 120)
        winner.kill()
        loser.kill()
        self.assertGreater(blocks_of(loser), 20, "and a part is not")
        loser.start()
        wait.until("it answers", loser.status, 30)
        self.wait_until_unreachable(loser)
        self.assertTrue(any("is kept" in disk["text"] for disk in loser.status()["disks"]), loser.status()["disks"])
        seen = self.act(loser, "force", check=True, peer_is_down=True, accept_loss=True)
        self.assertIn("taken back first", str(seen["findings"]))
        self.force(loser, accept_loss=True)
        loser.wait_for_state("solo")
        with violations.kept():
            self.assertEqual(blocks_of(loser), REGION_BYTES // BLOCK_BYTES)
        self.assert_in_journal(loser, "disk_put_back", "before a copy that broke off")
        self.assertFalse(os.path.exists(loser.disk + ".antipode.undo"))
        # The other one comes back, and what it gets now is whole.
        client = self.world.client(pair, options=["--window", "4"])
        client.wait_for_acknowledged(20)
        self.world.wan.set("a<->b", rate_mbytes=125)
        winner.start()
        wait.until("it waits for the operator", lambda: any(
            "overruled by a force" in alert["text"] for alert in winner.status()["alerts"]), 60)
        self.act(winner, "rejoin")
        pair.wait_until_protected(60)
        self.assertIs(pair.primary(), loser)
        before = client.acknowledged()
        client.wait_for_acknowledged(before + 20, seconds=60)
        self.assertEqual(client.stop()[0], 0)
        self.assertEqual(self.read_region(winner), random[loser])

    @staticmethod
    def write_region(site, content):
        with open(site.disk, "r+b") as disk:
            disk.seek(REGION_OFFSET)
            disk.write(content)

    @staticmethod
    def read_region(site):
        with open(site.disk, "rb") as disk:
            disk.seek(REGION_OFFSET)
            return disk.read(REGION_BYTES)

    def test_both_sites_are_forced_and_one_lives(self):
        """The mistake that an operator is warned of: no two VMs share an epoch, and when they see each other one halts."""
        pair, client = self.loaded_pair()
        for path in ("a<->t", "b<->t", "a<->b"):
            self.world.wan.cut(path)
        for site in (pair.a, pair.b):
            site.wait_for_state("waiting")
            self.wait_until_unreachable(site)
        for site in (pair.a, pair.b):
            self.force(site)
            site.wait_for_state("solo")
        epochs = [site.status()["epoch"] for site in (pair.a, pair.b)]
        self.assertNotEqual(*epochs)
        higher, lower = (pair.a, pair.b) if epochs[0] > epochs[1] else (pair.b, pair.a)
        for path in ("a<->b", "a<->t", "b<->t"):
            self.world.wan.heal(path)
        lower.wait_for_state("halted", seconds=60)
        self.assertEqual(higher.wait_for_state("solo")["epoch"], max(epochs))
        wait.until("the higher force is the record", lambda: any(
            str(max(epochs)) in line for line in self.decisions(pair, "report_force")), 30)
        # What only the other had is not thrown away without a word.
        wait.until("it waits for the operator", lambda: any(
            "overruled by a force" in alert["text"] for alert in lower.status()["alerts"]), 30)
        before = client.acknowledged()
        client.wait_for_acknowledged(before + 50, seconds=60)
        self.assertEqual(lower.status()["state"], "halted")
        self.act(lower, "rejoin")
        pair.wait_until_protected(60)
        self.assertIs(pair.primary(), higher)
        self.assertEqual(lower.status()["epoch"], higher.status()["epoch"])
        client.stop()

    def test_a_site_that_waits_for_a_word(self):
        """rejoin = "wait": the site that crashed does not give its copy up by itself."""
        pair, client = self.loaded_pair(settings={"pair": 'rejoin = "wait"'})
        self.assertEqual([site.status()["rejoin"] for site in (pair.a, pair.b)], ["wait", "wait"])
        pair.a.kill()
        pair.b.wait_for_state("solo")
        pair.a.start()
        wait.until("it says what it waits for", lambda: any(
            "rejoining waits for an operator" in alert["text"] for alert in pair.a.status()["alerts"]), 30)
        before = client.acknowledged()
        client.wait_for_acknowledged(before + 100, seconds=60)
        self.assertEqual(pair.b.status()["state"], "solo")
        self.assertNotIn(pair.a.status()["state"], ("joining", "backup"))
        operation = self.act(pair.a, "rejoin")["operation"]
        self.finished(pair.a, operation, "succeeded")
        pair.wait_until_protected(60)
        self.assertIs(pair.primary(), pair.b)
        self.finish(pair, client)

    def test_a_vm_that_waits_for_a_word_to_boot_again(self):
        """reclaim = "wait": both sites die; the VM boots where its newest copy is, and only when somebody says so."""
        pair, client = self.loaded_pair(settings={"pair": 'reclaim = "wait"'})
        self.assertEqual([site.status()["reclaim"] for site in (pair.a, pair.b)], ["wait", "wait"])
        client.stop()
        for site in (pair.a, pair.b):
            site.kill()
        for site in (pair.a, pair.b):
            site.start()
        wait.until("it says what it waits for", lambda: any(
            "booting the VM again waits for an operator" in alert["text"] for alert in pair.a.status()["alerts"]), 60)
        with violations.kept():
            self.assertEqual([site.status()["state"] for site in (pair.a, pair.b)], ["starting", "starting"])
        seen = self.act(pair.a, "reclaim", check=True)
        self.assertTrue(seen["allowed"], seen)
        operation = self.act(pair.a, "reclaim", note="the power is back")["operation"]
        self.finished(pair.a, operation, "succeeded")
        self.assert_in_journal(pair.a, "operator_action", "reclaim asked by test: the power is back")
        pair.wait_until_protected(60)
        self.assertIs(pair.primary(), pair.a)
        pair.b.process.stop()
        world.assert_nothing_lost(self, pair.a, [client])


if __name__ == "__main__":
    case.main()
