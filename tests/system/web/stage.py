"""The web daemon on played replicators, as the tests of this folder need it: started, logged in to, and ended."""

import http.client
import json
import os
import shutil
import ssl
import subprocess
import tempfile

PASSWORD = "correct horse battery"
SKIP = 77


class Stage:
    """with Stage(["web1"]) as stage: ... Everything it starts ends with the block."""

    def __init__(self, pairs, loopback_read=False, tls=True):
        self.pairs = pairs
        self.loopback_read = loopback_read
        self.tls = tls
        self.bin = os.path.join(os.environ["ANTIPODE_BUILD_DIR"], "bin")
        self.directory = tempfile.mkdtemp(prefix="antipode-web-")
        self.processes = []
        self.port = 0

    def path(self, *parts):
        return os.path.join(self.directory, *parts)

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            process.wait(timeout=20)
        shutil.rmtree(self.directory, ignore_errors=True)

    def start(self):
        os.makedirs(self.path("run"))
        with open(self.path("web.toml"), "w") as file:
            file.write(f"""[listen]
address = "127.0.0.1:0"
tls = {str(self.tls).lower()}
[state]
directory = "{self.path('state')}"
[control]
directories = ["{self.path('run', 'a')}", "{self.path('run', 'b')}"]
[access]
loopback_read = {str(self.loopback_read).lower()}
[drills.checks]
well = ["/bin/echo", "well"]
[[hooks]]
name = "told"
events = ["went_live"]
command = ["/bin/echo", "told"]
""")
        self.run("init")
        for name, role in (("ann", "admin"), ("otto", "operator"), ("dora", "drill_operator"), ("vera", "viewer")):
            self.run("user", "add", name, "--role", role, text=PASSWORD + "\n")
        self.fake = subprocess.Popen([os.path.join(self.bin, "fake_replicators"), self.path("run"), *self.pairs],
                                     stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.processes.append(self.fake)
        assert self.fake.stdout.readline() == "ready\n"
        web = subprocess.Popen([os.path.join(self.bin, "antipode-web"), "--config", self.path("web.toml")],
                               stderr=subprocess.PIPE, text=True)
        self.processes.append(web)
        for line in web.stderr:
            if "listening on" in line:
                self.port = int(line.rstrip("/\n").rsplit(":", 1)[1])
                break
        assert self.port, "antipode-web did not start"
        # Its log is read to the end, so that it never waits for us.
        subprocess.Popen(["cat"], stdin=web.stderr, stdout=subprocess.DEVNULL)

    def run(self, *words, text=""):
        done = subprocess.run([os.path.join(self.bin, "antipode-web"), "--config", self.path("web.toml"), *words],
                              input=text, text=True, capture_output=True)
        assert done.returncode == 0, f"antipode-web {words}: {done.stderr}"
        return done.stdout

    def play(self, scene):
        self.fake.stdin.write(scene + "\n")
        self.fake.stdin.flush()
        answer = self.fake.stdout.readline().strip()
        assert answer == "ok", f"{scene}: {answer}"

    def connect(self):
        if not self.tls:
            return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        # The certificate that it made for itself, and no other.
        context = ssl.create_default_context(cafile=self.path("state", "certificate.pem"))
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=30, context=context)


class Client:
    """One caller: a session with its cookie and CSRF token, or a token."""

    def __init__(self, stage, token=""):
        self.connection = stage.connect()
        self.cookie = ""
        self.csrf = ""
        self.token = token

    def ask(self, method, path, body=None, headers=None):
        """(status, headers, document or text)"""
        sent = dict(headers or {})
        if self.cookie:
            sent["Cookie"] = self.cookie
            sent["X-CSRF-Token"] = self.csrf
        if self.token:
            sent["Authorization"] = "Bearer " + self.token
        text = None
        if body is not None:
            text = json.dumps(body)
            sent["Content-Type"] = "application/json"
        self.connection.request(method, path, body=text, headers=sent)
        response = self.connection.getresponse()
        raw = response.read().decode()
        document = json.loads(raw) if "json" in response.headers.get("Content-Type", "") else raw
        return response.status, response.headers, document

    def log_in(self, name, password=PASSWORD):
        status, headers, document = self.ask("POST", "/api/v1/session", {"name": name, "password": password})
        if status == 201:
            self.cookie = headers["Set-Cookie"].split(";")[0]
            self.csrf = document["csrf"]
        return status, headers, document

    def until(self, path, wanted):
        """Asks until the answer is as wanted; the test's time limit bounds it."""
        while True:
            status, _, document = self.ask("GET", path)
            assert status == 200, document
            if wanted(document):
                return document
