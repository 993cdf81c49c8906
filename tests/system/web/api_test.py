#!/usr/bin/python3
"""The REST API does what web/openapi.yaml says: every operation that is described is called, and every answer,
good and bad, is held against its schema; nothing is served that is not described. /metrics passes promtool."""

import json
import os
import re
import shutil
import subprocess
import sys

try:
    import jsonschema
    import yaml
except ImportError as error:
    print(f"skipped: {error} (packages python3-yaml, python3-jsonschema)")
    sys.exit(77)

import fake_disks
from stage import PASSWORD, Client, Stage

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..", ".."))


# These need two sites: pairing_test.py holds their answers against the description.
ELSEWHERE = {("POST", "/pairings/offers"), ("POST", "/pairings"), ("GET", "/pairings/{pair}"), ("DELETE", "/pairings/{pair}"),
             ("POST", "/pairings/{pair}/unpair"), ("POST", "/pairings/{pair}/rekey"), ("POST", "/pairing/{step}")}


class Described:
    """The description, and which of its operations were seen."""

    def __init__(self, document):
        self.document = document
        self.seen = set()
        self.validators = {}

    def operations(self):
        for path, item in self.document["paths"].items():
            for method in ("get", "post", "patch", "put", "delete"):
                if method in item:
                    yield method.upper(), path, item[method]

    def find(self, method, path):
        """The operation that serves a real path."""
        for verb, pattern, operation in sorted(self.operations(), key=lambda entry: entry[1].count("{")):
            if verb == method and re.fullmatch(re.sub(r"\{[^}]*\}", "[^/]+", pattern), path.split("?")[0]):
                return pattern, operation
        raise AssertionError(f"{method} {path} is not described")

    def resolve(self, node):
        while "$ref" in node:
            target = self.document
            for part in node["$ref"][2:].split("/"):
                target = target[part]
            node = target
        return node

    def check(self, schema, document, what):
        key = str(schema)
        if key not in self.validators:
            whole = {**schema, "components": self.document["components"]}
            jsonschema.Draft202012Validator.check_schema(whole)
            self.validators[key] = jsonschema.Draft202012Validator(whole)
        for problem in self.validators[key].iter_errors(document):
            where = "/".join(str(part) for part in problem.absolute_path)
            raise AssertionError(f"{what}: at '{where}': {problem.message[:400]}")


class Checked:
    """A client whose every answer is held against the description."""

    def __init__(self, described, client):
        self.described = described
        self.client = client

    def ask(self, method, path, body=None, headers=None, expect=200, valid=True):
        pattern, operation = self.described.find(method, path)
        if valid and body is not None:
            schema = operation["requestBody"]["content"]["application/json"]["schema"]
            self.described.check(schema, body, f"request of {method} {path}")
        status, sent, document = self.client.ask(method, "/api/v1" + path, body, headers)
        assert status == expect, f"{method} {path}: {status}, expected {expect}: {document}"
        answers = operation["responses"]
        answer = self.described.resolve(answers.get(str(status), answers.get("default", {})))
        assert answer, f"{method} {path}: status {status} is not described"
        kind = sent.get("Content-Type", "").split(";")[0]
        if "content" in answer:
            assert kind in answer["content"], f"{method} {path}: {kind} is not described for {status}"
            schema = answer["content"][kind]["schema"]
            self.described.check(schema, document, f"{method} {path} -> {status}")
        else:
            assert document == "", f"{method} {path}: a body that is not described"
        if status < 400:
            self.described.seen.add((method, pattern))
        return document

    def until(self, path, wanted):
        while True:
            document = self.ask("GET", path)
            if wanted(document):
                return document


def reading(stage, ann):
    pair = ann.until("/pairs/web1", lambda seen: len(seen["views"]) == 2 and all(v["reachable"] for v in seen["views"]))
    assert pair["word"] == "protected"
    ann.ask("GET", "/pairs")
    page = ann.ask("GET", "/pairs?limit=1")
    assert page["next"] == "mail" and len(page["items"]) == 1
    ann.ask("GET", "/pairs?limit=none", expect=400)
    ann.ask("GET", "/pairs/nobody", expect=404)
    history = ann.ask("GET", "/pairs/web1/history")
    assert len(history["rows"]) >= 890 and len(history["rows"][0]) == len(history["columns"])
    ann.ask("GET", "/pairs/web1/console")
    ann.ask("GET", "/pairs/web1/console?site=lisbon&after=0")
    for path in ("/sites", "/vms", "/disks", "/links", "/tiebreaker", "/actions", "/drills", "/settings", "/session"):
        ann.ask("GET", path)
    ann.ask("GET", "/events?limit=2&severity=info&pair=web1")
    ann.ask("GET", "/events?severity=grave", expect=400)
    # Every state that a site can be in is described.
    stage.play("diverge web1")
    stage.play("tiebreaker-down web1")
    ann.until("/pairs/web1", lambda seen: seen["word"] == "degraded")
    stage.play("tiebreaker-up web1")
    stage.play("cut mail")
    ann.until("/pairs/mail", lambda seen: seen["word"] == "solo")
    stage.play("sync mail 1")
    ann.until("/pairs/mail", lambda seen: seen["sites"][0]["word"] == "joining")


def replicated_disks(stage, ann, otto, vera):
    with fake_disks.Served(stage.path("run", "a"), "db1") as served:
        listed = ann.ask("GET", "/replicated-disks")
        assert [(item["group"], item["reachable"]) for item in listed["items"]] == [("db1", True)], listed
        assert ann.ask("GET", "/replicated-disks/db1")["status"]["disks"][0]["decision"] == "split-brain"
        ann.ask("GET", "/replicated-disks/none", expect=404)
        ann.ask("GET", "/replicated-disks/actions")
        assert ann.ask("GET", "/replicated-disks/db1/events")["items"][0]["event"] == "link"
        act = "/replicated-disks/db1/actions/"
        ann.ask("POST", act + "verify", {"disk": "sda", "first": 16, "count": 32})
        ann.ask("POST", act + "rate", {"bytes_per_second": 1000})
        ann.ask("POST", act + "mode", {"mode": "sync"})
        ann.ask("POST", act + "discard-mine", {"confirm": "db1", "note": "the other one is right"})
        ann.ask("POST", act + "promote", {"force": True, "confirm": "db1"})
        assert served.orders == ["verify sda 16 32", "rate 1000", "mode sync", "discard-mine", "promote force"], served.orders
        ann.ask("POST", act + "discard-mine", {}, expect=422)
        ann.ask("POST", act + "promote", {"force": True}, expect=422)
        # What gives written data up is for an administrator; looking at it does nothing, and a key is done once.
        for action, body in (("discard-mine", {"confirm": "db1"}), ("invalidate", {"confirm": "db1"}), ("promote", {"force": True, "confirm": "db1"})):
            assert "'admin'" in otto.ask("POST", act + action, body, expect=403)["detail"]
        assert {item["name"]: item["allowed"] for item in otto.ask("GET", "/replicated-disks/actions")["items"]}["discard-mine"] is False
        seen = ann.ask("POST", act + "invalidate", {"check": True})
        assert (seen["allowed"], seen["done"], seen["confirm"]) == (True, False, "db1"), seen
        assert served.orders[-1] == "promote force"
        key = {"Idempotency-Key": "d1"}
        assert otto.ask("POST", act + "promote", {}, key) == otto.ask("POST", act + "promote", {}, key)
        assert served.orders[-2:] == ["promote force", "promote"], served.orders
        ann.ask("POST", act + "verify", {"disk": "sda sdb"}, expect=400)
        ann.ask("POST", act + "verify", {}, expect=400)
        ann.ask("POST", act + "dance", {}, expect=404)
        assert served.orders[-1] == "promote"
        refused = ann.ask("POST", act + "demote", {}, expect=403)
        assert "will not" in refused["detail"]
        vera.ask("POST", act + "pause", {}, expect=403)
        status, _, metrics = ann.client.ask("GET", "/metrics")
        stage.disk_metrics = metrics
        assert status == 200
        for line in ('antipode_replicated_disks_up{group="db1"} 1', 'antipode_replicated_disk_marked_bytes{group="db1",disk="sda"} 655360',
                     'antipode_replicated_disk_up_to_date{group="db1",disk="sda"} 1', 'antipode_replicated_disks_halted{group="db1"} 1',
                     'antipode_replicated_disk_split_brain{group="db1",disk="sda"} 1', 'antipode_replicated_disk_failed{group="db1",disk="sda"} 0',
                     'antipode_replicated_disk_verify_ended_timestamp_seconds{group="db1",disk="sda"} 1700000000'):
            assert line in metrics, f"{line}\n{metrics}"
        check_metrics(metrics)
    assert ann.ask("GET", "/replicated-disks")["items"] == []
    audit = {(entry["action"], entry["outcome"]) for entry in ann.ask("GET", "/audit?limit=1000")["items"]}
    assert {("disks.discard-mine", "ok"), ("disks.demote", "refused")} <= audit, audit


def acting(ann, vera):
    act = "/pairs/web1/actions/"
    ann.ask("POST", act + "switchover", {"check": True})
    ann.ask("POST", act + "switchover", {}, expect=422)
    ann.ask("POST", act + "dance", {}, expect=404)
    ann.ask("POST", act + "snapshot", {"surprise": 1}, expect=400, valid=False)
    ann.ask("POST", act + "reload", {}, expect=501)
    vera.ask("POST", act + "snapshot", {"text": "x"}, expect=403)
    started = ann.ask("POST", act + "snapshot", {"text": "x", "note": "a test"}, expect=202)
    task = started["task"]["id"]
    key = {"Idempotency-Key": "c1"}
    assert ann.ask("POST", f"/tasks/{task}/cancel", None, key) == ann.ask("POST", f"/tasks/{task}/cancel", None, key)
    ann.until(f"/tasks/{task}", lambda seen: seen["state"] != "running")
    ann.ask("POST", f"/tasks/{task}/cancel", expect=409)
    ann.ask("GET", "/tasks/none", expect=404)
    ann.ask("GET", "/tasks?limit=1&state=succeeded")
    paused = {"confirm": "web1"}
    first = ann.ask("POST", act + "pause", paused, {"Idempotency-Key": "k1"})
    again = ann.ask("POST", act + "pause", paused, {"Idempotency-Key": "k1"})
    assert first == again
    ann.ask("POST", act + "resume", {}, {"Idempotency-Key": "k1"}, expect=422)
    ann.ask("POST", act + "resume", {})


def rehearsing(ann, vera):
    plan = {"pair": "web1", "check": "command", "command": "well"}
    vera.ask("POST", "/drills", plan, expect=403)
    assert ann.ask("POST", "/drills", {**plan, "check_only": True})["allowed"]
    ann.ask("POST", "/drills", {**plan, "command": "/bin/sh"}, expect=409)
    ann.ask("POST", "/drills", {**plan, "argv": "x"}, expect=400, valid=False)
    ann.ask("POST", "/drills", {"pair": "web1", "kind": "switchover"}, expect=422)
    drill = ann.ask("POST", "/drills", plan, {"Idempotency-Key": "r1"}, expect=202)
    assert ann.ask("POST", "/drills", plan, {"Idempotency-Key": "r1"}, expect=202)["id"] == drill["id"]
    ann.ask("POST", "/drills", plan, expect=409)
    drill = ann.until(f"/drills/{drill['id']}", lambda seen: seen["verdict"] is not None)
    assert drill["verdict"] == "passed", drill
    report = ann.ask("GET", f"/drills/{drill['id']}/report")
    assert json.loads(report["report"])["check"]["output"] == "well\n"
    ann.ask("GET", f"/drills/{drill['id']}/report.html")
    ann.ask("POST", f"/drills/{drill['id']}/stop", expect=409)
    second = ann.ask("POST", "/drills", {"pair": "web1", "check": "console", "expect": "never"}, expect=202)
    ann.ask("GET", f"/drills/{second['id']}/report", expect=404)
    ann.ask("POST", f"/drills/{second['id']}/stop", expect=202)
    assert ann.until(f"/drills/{second['id']}", lambda seen: seen["verdict"] is not None)["verdict"] == "stopped"
    assert [item["id"] for item in ann.ask("GET", "/drills?pair=web1&limit=2")["items"]] == [second["id"], drill["id"]]
    ann.ask("GET", "/drills/none", expect=404)
    ann.ask("PUT", "/drill-schedules", {**plan, "weekday": "friday", "time": "03:30"})
    ann.ask("PUT", "/drill-schedules", {**plan, "weekday": "friday", "time": "3:30"}, expect=400, valid=False)
    ann.ask("GET", "/drill-schedules")
    vera.ask("DELETE", "/drill-schedules/web1/isolated", expect=403)
    ann.ask("DELETE", "/drill-schedules/web1/isolated", expect=204)
    ann.ask("DELETE", "/drill-schedules/web1/isolated", expect=404)


def hooking(ann, vera):
    vera.ask("POST", "/hooks/told/test", expect=403)
    assert ann.ask("POST", "/hooks/told/test")["output"] == "told\n"
    ann.ask("POST", "/hooks/nobody/test", expect=404)
    assert vera.ask("GET", "/hooks")["items"][0]["last"]["outcome"] == "ok"
    assert vera.ask("GET", "/hook-results?hook=told")["items"][0]["event"] == "test"


def administering(stage, described, ann, vera):
    ann.ask("POST", "/users", {"name": "new", "role": "operator", "password": PASSWORD}, expect=201)
    ann.ask("POST", "/users", {"name": "new", "role": "operator", "password": PASSWORD}, expect=409)
    ann.ask("PATCH", "/users/new", {"disabled": True})
    ann.ask("GET", "/users")
    vera.ask("GET", "/users", expect=403)
    ann.ask("DELETE", "/users/new", expect=204)
    ann.ask("DELETE", "/users/ann", expect=409)
    token = ann.ask("POST", "/tokens", {"name": "prometheus", "role": "viewer", "expires_days": 30}, expect=201)
    ann.ask("GET", "/tokens")
    program = Client(stage, token["token"])
    Checked(described, program).ask("GET", "/pairs")
    status, _, metrics = program.ask("GET", "/metrics")
    assert status == 200
    check_metrics(metrics)
    check_monitoring(metrics, stage.disk_metrics)
    ann.ask("DELETE", f"/tokens/{token['id']}", expect=204)
    Checked(described, program).ask("GET", "/pairs", expect=401)
    ann.ask("PATCH", "/settings", {"login_banner": "Authorised use only"})
    ann.ask("PATCH", "/settings", {"session_hours": 0}, expect=400, valid=False)
    audit = ann.ask("GET", "/audit?limit=1000")
    done = {(entry["action"], entry["outcome"]) for entry in audit["items"]}
    for wanted in (("user.add", "ok"), ("token.add", "ok"), ("pair.snapshot", "asked"), ("pair.snapshot", "refused"),
                   ("settings.change", "ok"), ("login", "ok"), ("login", "refused")):
        assert wanted in done, f"{wanted} is not in the audit log"
    assert PASSWORD not in str(audit)


def logging_in(stage, described):
    stranger = Checked(described, Client(stage))
    stranger.ask("GET", "/pairs", expect=401)
    stranger.ask("GET", "/session")
    stranger.ask("POST", "/session", {"name": "vera", "password": "wrong"}, expect=401)
    stranger.ask("POST", "/session", {"name": "vera"}, expect=400, valid=False)
    dora = Client(stage)
    assert dora.log_in("dora")[0] == 201
    checked = Checked(described, dora)
    checked.ask("POST", "/session/password", {"old_password": "not this one", "new_password": "another good one"},
                expect=403)
    checked.ask("POST", "/session/password", {"old_password": PASSWORD, "new_password": "another good one"}, expect=201)
    checked.ask("GET", "/pairs", expect=401)  # the old cookie is over
    checked.ask("POST", "/session", {"name": "dora", "password": "another good one"}, expect=201)
    assert dora.log_in("dora", "another good one")[0] == 201
    checked.ask("DELETE", "/session", expect=204)


def streaming(stage, described, ann):
    """The stream's documents are the REST documents."""
    connection = stage.connect()
    connection.request("GET", "/api/v1/live?pair=web1", headers={"Cookie": ann.client.cookie})
    response = connection.getresponse()
    assert response.status == 200 and response.headers["Content-Type"] == "text/event-stream"
    schemas = described.document["components"]["schemas"]
    wanted = {"overview": "Summary", "pair": "Pair", "event": "Event", "task": "Task"}
    ann.ask("POST", "/pairs/web1/actions/pause", {"confirm": "web1"})
    import json
    seen, name = set(), ""
    while seen != set(wanted):
        line = response.readline().decode().rstrip("\n")
        if line.startswith("event: "):
            name = line[7:]
        elif line.startswith("data: "):
            document = json.loads(line[6:])
            items = document["items"] if name == "overview" else [document]
            for item in items:
                described.check(schemas[wanted[name]], item, f"live {name}")
            seen.add(name)
    described.seen.add(("GET", "/live"))
    ann.ask("POST", "/pairs/web1/actions/resume", {})


def check_monitoring(text, with_disks):
    """The dashboard and the alert rules ask for metrics that there are; the rules do what their own tests say."""
    there = set(re.findall(r"^# TYPE (\S+)", text + with_disks, re.MULTILINE))
    there.add("antipode_tiebreaker_etcd_size_bytes")  # of the tiebreaker itself: `admin metrics`
    folder = os.path.join(ROOT, "packaging")
    for path in ("grafana/antipode.json", "prometheus/antipode.rules.yml"):
        with open(os.path.join(folder, path)) as file:
            asked = set(re.findall(r"\bantipode_[a-z0-9_]+", file.read()))
        assert len(asked) > 5 and asked <= there, f"{path} asks for what is not there: {sorted(asked - there)}"
    promtool = shutil.which("promtool")
    if promtool:
        rules = os.path.join(folder, "prometheus", "antipode.rules.yml")
        for words in (["check", "rules", rules], ["test", "rules", rules.replace(".yml", ".test.yml")]):
            done = subprocess.run([promtool, *words], text=True, capture_output=True)
            assert done.returncode == 0, done.stderr + done.stdout


def check_metrics(text):
    promtool = shutil.which("promtool")
    if not promtool:
        print("promtool is missing (package prometheus): /metrics is not checked by it")
        return
    done = subprocess.run([promtool, "check", "metrics"], input=text, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr + done.stdout


def served_paths():
    """What the sources route under /api/v1."""
    found = set()
    folder = os.path.join(ROOT, "web", "routes")
    for name in os.listdir(folder):
        if name.endswith(".cc"):
            with open(os.path.join(folder, name)) as file:
                found.update(re.findall(r'"/api/v1(/[^"]*)"', file.read()))
    # Beginnings of Location headers are no routes.
    return {path for path in found if not path.endswith("/") and "{}" not in path}


def main():
    with Stage(["web1", "mail"]) as stage:
        ann_client, otto_client, vera_client = Client(stage), Client(stage), Client(stage)
        status, _, session = ann_client.log_in("ann")
        assert status == 201, session
        assert vera_client.log_in("vera")[0] == 201
        assert otto_client.log_in("otto")[0] == 201
        status, headers, text = ann_client.ask("GET", "/api/v1/openapi.yaml")
        assert status == 200 and headers["Content-Type"] == "application/yaml"
        described = Described(yaml.safe_load(text))
        ann, otto, vera = (Checked(described, client) for client in (ann_client, otto_client, vera_client))
        logging_in(stage, described)
        reading(stage, ann)
        acting(ann, vera)
        replicated_disks(stage, ann, otto, vera)
        rehearsing(ann, vera)
        hooking(ann, vera)
        streaming(stage, described, ann)
        stage.play("sync mail 1")  # the dashboard asks for what is only there during one
        ann.until("/pairs/mail", lambda seen: seen["sites"][0]["word"] == "joining")
        administering(stage, described, ann, vera)
        ann.ask("GET", "/pairings")
        missing = {(method, path) for method, path, _ in described.operations()} - described.seen - ELSEWHERE
        assert not missing, f"described, and never answered well here: {sorted(missing)}"
        undescribed = served_paths() - set(described.document["paths"])
        assert not undescribed, f"served and not described: {sorted(undescribed)}"
        print(f"{len(described.seen)} operations, each as described")


if __name__ == "__main__":
    main()
