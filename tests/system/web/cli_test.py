#!/usr/bin/python3
"""The command line against a page on played replicators: what it prints, what it exits with, what it refuses to do without a
confirmation, and that a token is never asked for on the command line."""

import json
import os
import subprocess
import sys

import fake_disks
from stage import Stage


class Cli:
    def __init__(self, stage, token=""):
        self.stage = stage
        self.environment = {"ANTIPODE_TOKEN": token, "PATH": os.environ["PATH"], "TZ": "UTC"}

    def run(self, *words, expect=0, text=""):
        done = subprocess.run([os.path.join(self.stage.bin, "antipode"), *self.at, *words], input=text, text=True,
                              capture_output=True, env=self.environment, timeout=60)
        assert done.returncode == expect, f"antipode {words}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stderr if expect else done.stdout

    @property
    def at(self):
        pin = self.stage.run("fingerprint").split()[-1]
        return ["--url", f"https://127.0.0.1:{self.stage.port}", "--fingerprint", pin]

    def read(self, *words):
        return json.loads(self.run("--json", *words))


def reading(cli):
    shown = cli.run("status")
    header, *rows = shown.splitlines()
    assert header.split()[:2] == ["PAIR", "STATE"] and len(rows) == 2, shown
    assert any(row.startswith("web1") and "protected" in row for row in rows), shown
    assert "SITE" in cli.run("status", "web1") and "prague" in cli.run("status", "web1")
    for command, word in (("sites", "lisbon"), ("vms", "web1"), ("disks", "up_to_date"), ("links", "prague"), ("tiebreaker", "paired"),
                          ("events", "paired")):
        assert word in cli.run(command), command
    assert cli.read("status")["items"][0]["name"] == "mail"
    assert {event["pair"] for event in cli.read("events", "web1")["items"]} == {"web1"}
    assert cli.read("get", "/pairs/web1")["name"] == "web1"
    assert "Linux version" in cli.run("console", "web1")
    assert "there is no pair" in cli.run("status", "nowhere", expect=1)


def acting(cli):
    planned = cli.read("switchover", "web1", "--check")
    assert planned["confirm"] == "web1" and planned["task"] is None
    assert "pauses for about" in cli.run("switchover", "web1", "--check")
    # Without a terminal and a confirmation nothing is done.
    assert "--confirm web1" in cli.run("switchover", "web1", expect=1)
    assert "type the pair's name" in cli.run("switchover", "web1", "--confirm", "mail", expect=1)
    assert cli.read("tasks")["items"] == []
    assert "succeeded" in cli.run("switchover", "web1", "--confirm", "web1", "--note", "kernel update")
    assert cli.read("tasks")["items"][0]["state"] == "succeeded"
    task = cli.run("drill-start", "mail", "--confirm", "mail", "--no-wait").split()[-1]
    assert "succeeded" in cli.run("task", task)
    assert "force" in cli.run("--help") and "--peer-is-down" in cli.run("force", "--help") and "--accept-loss" in cli.run("force", "--help")
    # What this version cannot do is not offered.
    cli.run("resolve", "web1", expect=2)


def refusing(stage, cli):
    viewer = Cli(stage, cli.read("token", "add", "reader", "--role", "viewer")["token"])
    assert viewer.read("status")["items"]
    assert "is viewer" in viewer.run("switchover", "web1", "--confirm", "web1", expect=1)
    assert "not allowed" not in viewer.run("events")
    wrong = Cli(stage, "antipode_nonsense")
    wrong.run("status", expect=1)
    assert Cli(stage).run("status", expect=1)  # over TLS without a token: not even reading
    cli.run("nonsense", expect=2)
    cli.run("switchover", expect=2)
    done = subprocess.run([os.path.join(stage.bin, "antipode"), "--url", "https://127.0.0.1:9", "status"], capture_output=True)
    assert done.returncode == 3, done
    # Another certificate than the pinned one: nothing is sent, the token least of all.
    done = subprocess.run([os.path.join(stage.bin, "antipode"), *cli.at[:2], "--fingerprint", "00" * 32, "status"],
                          capture_output=True, text=True, env=cli.environment)
    assert done.returncode == 1 and "not the one that was pinned" in done.stderr, done


def rehearsing(stage, cli):
    assert "--confirm web1" in cli.run("drill", "run", "web1", "--kind", "switchover", expect=1)
    assert "expect" in cli.run("drill", "run", "web1", "--check", "console", expect=1)
    said = cli.run("drill", "run", "web1", "--check", "command", "--command", "well")
    assert "RPO" in said and "antipode drill report" in said, said
    drill = cli.read("drills", "web1")["items"][0]
    assert drill["verdict"] == "passed", drill
    path = stage.path("report.json")
    with open(path, "w") as file:
        file.write(cli.run("drill", "report", drill["id"]))
    pin = stage.run("fingerprint").split()[-1]
    verify = [os.path.join(stage.bin, "antipode"), "verify-report", path]
    good = subprocess.run([*verify, "--fingerprint", pin], capture_output=True, text=True)
    assert good.returncode == 0 and good.stdout.startswith("good: drill of web1"), good
    # By the page's own certificate no authority vouches for it, and another fingerprint is another signer.
    assert subprocess.run([*verify, "--ca", stage.path("none.pem")], capture_output=True).returncode == 1
    other = subprocess.run([*verify, "--fingerprint", "00" * 32], capture_output=True, text=True)
    assert other.returncode == 1 and "signed by another" in other.stderr, other
    assert "next on" in cli.run("drill", "schedule", "web1", "--weekday", "sunday", "--time", "03:00")
    assert "sunday" in cli.run("drill", "schedules")
    # What is typed ends with Enter, however it was given.
    for typed in ("systemctl is-active nginx", "systemctl is-active nginx\n"):
        cli.run("drill", "schedule", "web1", "--check", "console", "--send", typed, "--expect", "active",
                "--weekday", "sunday", "--time", "03:00")
        assert cli.read("drill", "schedules")["items"][0]["plan"]["send"] == "systemctl is-active nginx\n"
    cli.run("drill", "unschedule", "web1", "isolated")
    cli.run("drill", "unschedule", "web1", "isolated", expect=1)
    assert "told" in cli.run("hooks")


def managing(cli):
    assert "newcomer" in cli.run("user", "add", "newcomer", "--role", "operator", text="a long enough one\n")
    assert "password" in cli.run("user", "add", "another", text="short\n", expect=1)
    assert "drill_operator" in cli.run("user", "role", "newcomer", "drill_operator")
    assert cli.read("user", "disable", "newcomer")["disabled"] is True
    assert cli.read("user", "enable", "newcomer")["disabled"] is False
    cli.run("user", "password", "newcomer", text="another good one\n")
    assert "newcomer" in cli.run("users")
    cli.run("user", "remove", "newcomer")
    assert "newcomer" not in cli.run("users")
    assert "last administrator" in cli.run("user", "disable", "ann", expect=1)
    assert cli.read("settings", "--session-hours", "9", "--login-banner", "keep out")["session_hours"] == 9
    assert "keep out" in cli.run("settings")
    cli.run("settings", "--session-hours", "0", expect=1)
    assert "told" in cli.run("hook", "test", "told")
    cli.run("hook", "test", "nobody", expect=1)
    assert cli.read("hook", "results", "told", "--limit", "1")["items"][0]["event"] == "test"


def ordering_disks(stage, cli):
    with fake_disks.Served(stage.path("run", "a"), "db1") as served:
        assert "UpToDate" in cli.run("replicated-disks", "status") and "split-brain" in cli.run("replicated-disks", "status", "db1")
        assert "connected" in cli.run("replicated-disks", "events", "db1")
        assert "discard-mine" in cli.run("replicated-disks", "actions")
        order = ("replicated-disks", "order", "db1")
        cli.run(*order, "verify", "--disk", "sda", "--first", "16", "--count", "32")
        cli.run(*order, "rate", "--bytes-per-second", "1000")
        assert "given up" in cli.run(*order, "discard-mine", "--check")
        assert "--confirm db1" in cli.run(*order, "discard-mine", expect=1)
        cli.run(*order, "discard-mine", "--confirm", "db1")
        cli.run(*order, "promote", "--force", "--confirm", "db1")
        cli.run(*order, "dance", expect=1)
        assert served.orders == ["verify sda 16 32", "rate 1000", "discard-mine", "promote force"], served.orders


def completing(cli):
    script = os.path.join(os.path.dirname(__file__), "..", "..", "..", "packaging", "completion", "antipode")

    def words(*typed):
        line = " ".join(f"'{word}'" for word in typed)
        text = f"source {script}; COMP_WORDS=({line}); COMP_CWORD={len(typed) - 1}; _antipode; echo \"${{COMPREPLY[@]}}\""
        path = cli.stage.bin + ":" + os.environ["PATH"]
        return subprocess.run(["bash", "-c", text], capture_output=True, text=True, env={"PATH": path}).stdout.split()

    assert "switchover" in words("antipode", "sw"), words("antipode", "sw")
    assert "--peer-is-down" in words("antipode", "force", "--p")
    assert set(words("antipode", "pairing", "")) >= {"offer", "join", "list", "unpair"}


def main():
    with Stage(["web1", "mail"]) as stage:
        cli = Cli(stage, stage.run("token", "add", "cli", "--role", "admin").split()[-1])
        reading(cli)
        acting(cli)
        rehearsing(stage, cli)
        refusing(stage, cli)
        managing(cli)
        ordering_disks(stage, cli)
        completing(cli)
    print("the command line does what it says")


if __name__ == "__main__":
    sys.exit(main())
