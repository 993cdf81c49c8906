#!/usr/bin/env python3
"""Drills as an operator runs them: through each site's own web daemon, which sees its own replicator alone, on a real pair under
load. The copy is asked over its isolated network, the VM goes there and back, the line is cut, the primary is killed; each
ends with a report whose signature the pair's authority vouches for, and nothing that the client saw acknowledged is missing."""

import json
import os
import sys
import threading

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import case, guests, netns, paths, process, requirements, wait, world  # noqa: E402  pylint: disable=wrong-import-position
from lib.world_case import WorldCase  # noqa: E402  pylint: disable=wrong-import-position

requirements.require(requirements.missing_for_namespaces(), requirements.missing_for_guests())

# Asks the copy, through the drill's TAP and no other way.
ASK = """
import os, socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"drilltap0")
s.settimeout(1)
s.sendto(b"drill 1", (sys.argv[1], 7))
answer = s.recv(2048)
print(os.environ["ANTIPODE_PAIR"], "answers", len(answer), "bytes")
sys.exit(0 if b"drill 1" in answer else 1)
"""


class Page:
    """A site's web daemon, and the command line that asks it."""

    def __init__(self, test, pair, letter):
        self.test = test
        self.pair = pair
        self.site = pair.sites[letter]
        self.namespace = pair.topology.name(letter)
        folder = os.path.join(test.folder, f"web-{letter}")
        os.makedirs(os.path.join(folder, "site"))
        for name in ("site.pem", "site.key", "ca.pem"):
            process.run(["cp", os.path.join(self.site.config, name), os.path.join(folder, "site", name)])
        script = os.path.join(folder, "ask.py")
        with open(script, "w", encoding="utf-8") as file:
            file.write(ASK)
        self.told = os.path.join(folder, "told")
        self.config = os.path.join(folder, "web.toml")
        with open(self.config, "w", encoding="utf-8") as file:
            file.write(f"""[state]
directory = "{folder}/state"
[control]
directories = ["{self.site.folder}"]
[site]
credentials = "{folder}/site"
[drills.checks]
ask = ["/usr/bin/python3", "{script}", "{pair.guest_address}"]
never = ["/bin/false"]
[[hooks]]
name = "route"
events = ["went_live"]
command = ["/bin/sh", "-c", "echo $ANTIPODE_EVENT $ANTIPODE_PAIR $ANTIPODE_SITE >> {self.told}"]
""")
        self.ca = os.path.join(folder, "site", "ca.pem")
        web = [paths.program("antipode-web"), "--config", self.config]
        process.run([*web, "init"])
        self.token = process.run([*web, "token", "add", "test", "--role", "operator"]).stdout.strip()
        self.daemon = test.owned(process.Process(f"web of {letter}", web, os.path.join(folder, "web.log"), namespace=self.namespace))
        self.daemon.wait_for_line("listening on")
        wait.until("the page sees the pair", lambda: self.status()["word"] == "protected", 30, interval=0.1)

    def antipode(self, *words, check=True):
        return process.run([paths.program("antipode"), "--config", self.config, *words], namespace=self.namespace, check=check,
                           env={"ANTIPODE_TOKEN": self.token}, seconds=400)

    def status(self):
        return json.loads(self.antipode("--json", "status", self.pair.name).stdout)

    def lines_told(self):
        """By its hook."""
        with open(self.told, encoding="utf-8") as file:
            return file.readlines()

    def drill(self, *words, check=True):
        """Runs one to its end; (what the command said, the report)."""
        done = self.antipode("drill", "run", self.pair.name, *words, check=False)
        newest = json.loads(self.antipode("--json", "drills", self.pair.name, "--limit", "1").stdout)["items"][0]
        path = self.test.path(f"report-{newest['id']}.json")
        with open(path, "w", encoding="utf-8") as file:
            file.write(self.antipode("drill", "report", newest["id"]).stdout)
        verified = json.loads(self.antipode("--json", "verify-report", path, "--ca", self.ca).stdout)
        self.test.assertEqual(verified["verdict"], newest["verdict"])
        if check:
            self.test.assertEqual(done.returncode, 0, done.stdout + done.stderr + json.dumps(verified, indent=1))
            self.test.assertEqual(verified["verdict"], "passed")
            self.test.assertEqual([f for f in verified["findings"] if f["severity"] == "error"], [])
        measured = verified["measured"]
        print(f"{' '.join(words) or 'isolated'}: {verified['verdict']}, RPO {measured['rpo_seconds']} s, RTO {measured['rto_seconds']} s, "
              f"service {measured['service_seconds']} s", flush=True)
        return done, verified, path


class DrillReport(WorldCase):
    def setUp(self):
        super().setUp()
        self.pair = self.world.pair(guests.udp_echo(), digest_interval_ms=100, heartbeat_ms=60,
                                    settings={"drill": 'taps = ["drilltap0"]'})
        for letter in ("a", "b"):
            self.world.topology.add_isolated_tap(letter, "drilltap0", f"{netns.GUEST_ADDRESS.rpartition('.')[0]}.200/24")
        self.pair.start()
        self.client = self.world.client(self.pair, options=["--window", "4"])
        self.client.wait_for_acknowledged(50)
        self.a, self.b = (Page(self, self.pair, letter) for letter in ("a", "b"))

    def finish(self):
        before = self.client.acknowledged()
        self.client.wait_for_acknowledged(before + 20)
        code, _ = self.client.stop()
        self.assertEqual(code, 0, self.client.process.output())
        survivor = self.pair.primary()
        self.pair.other(survivor).process.stop()
        acknowledged, duplicated = world.assert_nothing_lost(self, survivor, [self.client])
        print(f"acknowledged={acknowledged} lost=0 duplicated={duplicated}", flush=True)

    def test_isolated(self):
        # It runs where the backup is.
        refused = self.a.antipode("drill", "run", self.pair.name, check=False)
        self.assertEqual(refused.returncode, 1)
        self.assertIn("other site", refused.stderr)
        _, report, path = self.b.drill("--network", "isolated", "--check", "command", "--command", "ask", "--within", "30")
        self.assertIn("vm0 answers", report["check"]["output"])
        disk = report["copy"]["disks"][0]
        self.assertEqual((disk["id"], disk["size_bytes"], len(disk["sha256"])), ("data", self.pair.guest.disk_bytes, 64))
        self.assertLess(report["measured"]["rpo_seconds"], 5)
        self.assertGreater(report["protection"]["samples"], 0)
        self.assertGreater(report["copy"]["received_frames"], 0)
        codes = [entry["code"] for entry in report["timeline"]]
        for code in ("drill_started", "copy_runs", "check_passed", "drill_finished", "cleaned"):
            self.assertIn(code, codes)
        self.assertEqual(codes.index("drill_started") < codes.index("drill_finished"), True)
        self.assertFalse(os.path.exists(os.path.join(self.pair.b.state, "drill")))
        self.tampering(path)
        # A check that does not pass fails the drill, and the copy is gone all the same.
        done, report, _ = self.b.drill("--check", "command", "--command", "never", "--within", "1", check=False)
        self.assertEqual(done.returncode, 1)
        self.assertEqual(report["verdict"], "failed")
        self.assertFalse(os.path.exists(os.path.join(self.pair.b.state, "drill")))
        self.finish()

    def tampering(self, path):
        with open(path, encoding="utf-8") as file:
            document = json.load(file)
        self.assertIn('"verdict":"passed"', document["report"])
        document["report"] = document["report"].replace('"rpo_seconds":', '"rpo_seconds":0')
        changed = path + ".changed"
        with open(changed, "w", encoding="utf-8") as file:
            json.dump(document, file)
        refused = self.b.antipode("verify-report", changed, "--ca", self.b.ca, check=False)
        self.assertEqual(refused.returncode, 1)
        self.assertIn("signature does not fit", refused.stderr)
        other = self.path("other")
        process.run([paths.program("antipode-ca"), "init", "--directory", other])
        refused = self.b.antipode("verify-report", path, "--ca", os.path.join(other, "ca.pem"), check=False)
        self.assertEqual(refused.returncode, 1)
        self.assertIn("not of the authority", refused.stderr)

    def test_switchover_from_either_site(self):
        for page in (self.a, self.b):
            refused = page.antipode("drill", "run", self.pair.name, "--kind", "switchover", check=False)
            self.assertIn("--confirm", refused.stderr)
            _, report, _ = page.drill("--kind", "switchover", "--confirm", self.pair.name)
            self.assertEqual(report["measured"]["rpo_seconds"], 0)
            self.assertGreater(report["measured"]["rto_seconds"], 0)  # this site's own pause
            self.assertEqual(report["protection"]["epoch_after"], report["protection"]["epoch_before"] + 2)
            self.assertIs(self.pair.primary(), self.pair.a)
        # What went live here told its hook, there and back.
        for page, site in ((self.a, "site-a"), (self.b, "site-b")):
            told = wait.until("the hook was told", lambda p=page: (lambda lines: lines if len(lines) >= 2 else None)(p.lines_told()), 10)
            self.assertEqual(told[0].split(), ["went_live", "vm0", site])
        self.finish()

    def test_the_line_is_cut(self):
        _, report, _ = self.b.drill("--kind", "fault", "--fault", "link_cut", "--seconds", "5", "--site", "site-b", "--confirm", "vm0")
        self.assertGreater(report["protection"]["epoch_after"], report["protection"]["epoch_before"])
        codes = [entry["code"] for entry in report["timeline"]]
        self.assertIn("fault_injected", codes)
        self.assertTrue("fault_ended" in codes or "restarted" in codes, codes)
        self.finish()

    def test_the_primary_is_killed(self):
        done = []
        operator = threading.Thread(target=lambda: done.append(
            self.a.drill("--kind", "fault", "--fault", "kill_primary", "--confirm", "vm0")))
        operator.start()
        # What systemd does. (A process dies with the thread that started it: this one lives on.)
        self.pair.a.process.finished(60)
        self.pair.a.start()
        operator.join()
        self.assertEqual(len(done), 1, "the drill failed")
        _, report, _ = done[0]
        self.assertIn("restarted", [entry["code"] for entry in report["timeline"]])
        # The site that went on is not on this host: its page knows when.
        self.assertIsNone(report["measured"]["rto_seconds"])
        self.assertIn("not on this host", report["measured"]["rto_basis"])
        self.assertIs(self.pair.primary(), self.pair.b)
        self.finish()


if __name__ == "__main__":
    case.main()
