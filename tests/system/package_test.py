#!/usr/bin/env python3
"""The .deb in a clean Debian root: it installs with nothing but what it depends on, makes its users, its units are sound
and well sandboxed, and the tiebreaker starts from it as its own user and talks mutual TLS 1.3."""

import http.client
import os
import re
import shutil
import socket
import ssl
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import case, clean_root, netns, process, requirements, wait  # noqa: E402  pylint: disable=wrong-import-position

EXPOSURE_MAX = 2.5
PORT = 7200

requirements.require(clean_root.missing())


class Package(case.Case):
    @classmethod
    def setUpClass(cls):
        cls.packages = clean_root.build_packages()
        cls.clean = clean_root.CleanRoot(os.path.join(os.path.dirname(cls.packages["antipode", "deb"]), "root"))
        cls.root = cls.clean.folder
        cls.in_root = cls.clean.command
        cls.run_in_root = cls.clean.run
        cls.installed = cls.clean.install(cls.packages, check=False)

    @classmethod
    def tearDownClass(cls):
        cls.clean.discard()

    def units(self):
        folder = os.path.join(self.root, "usr/lib/systemd/system")
        return sorted(os.path.join(folder, name) for name in os.listdir(folder) if name.startswith("antipode"))

    def test_installs_with_its_dependencies_alone(self):
        self.assertEqual(self.installed.returncode, 0, self.installed.stdout + self.installed.stderr)
        for name in ("antipode", "antipode-tiebreaker"):
            self.assertIn("install ok installed", self.run_in_root("dpkg", "-s", name).stdout)

    def test_what_is_in_which_package(self):
        """Each family of packages brings the same; nothing is in two packages of a family."""
        expected = {"antipode": ["/usr/bin/antipode", "/usr/bin/antipode-replicator", "/usr/bin/antipode-web", "/etc/antipode/web.toml",
                                 "/usr/lib/systemd/system/antipode-replicator@.service", "/usr/lib/firewalld/services/antipode.xml",
                                 "/usr/share/antipode/monitoring/antipode.rules.yml", "/usr/share/doc/antipode/copyright",
                                 "/usr/share/man/man8/antipode.8.gz", "/usr/share/bash-completion/completions/antipode"],
                    "antipode-tiebreaker": ["/usr/bin/antipode-tiebreaker", "/usr/bin/antipode-ca",
                                            "/usr/lib/systemd/system/antipode-tiebreaker.service",
                                            "/usr/share/doc/antipode-tiebreaker/copyright"]}
        for kind in ("deb", "rpm"):
            seen = {}
            for (name, of_kind), path in self.packages.items():
                if of_kind != kind:
                    continue
                if kind == "deb":
                    listed = process.run(["dpkg-deb", "--contents", path]).stdout
                    files = {line.split()[5].lstrip(".") for line in listed.splitlines() if line.startswith("-")}
                else:
                    listed = process.run(["rpm", "-qp", "--nosignature", "--qf", "[%{FILEMODES:perms} %{FILENAMES}\\n]", path]).stdout
                    files = {line.split()[1] for line in listed.splitlines() if line.startswith("-")}
                for file in expected.get(name, []):
                    self.assertIn(file, files, f"{name} as {kind}")
                for file in files:
                    self.assertNotIn(file, seen, f"in {name} and {seen.get(file)} as {kind}")
                    seen[file] = name

    def test_rpm_scripts_and_dependencies(self):
        path = self.packages.get(("antipode", "rpm"))
        if path is None:
            self.skipTest("rpmbuild is not installed")
        requires = process.run(["rpm", "-qpR", "--nosignature", path]).stdout
        for needed in ("systemd", "iproute", "libzmq.so.5"):
            self.assertIn(needed, requires)
        scripts = process.run(["rpm", "-qp", "--scripts", "--nosignature", path]).stdout
        self.assertIn("systemd-sysusers antipode.conf", scripts)
        self.assertNotIn("rm -r", scripts)
        self.assertNotIn("restart 'antipode-replicator", scripts)
        self.assertEqual(process.run(["rpm", "-qpc", "--nosignature", path]).stdout.split(),
                         ["/etc/antipode/vms/example/pair.toml", "/etc/antipode/vms/example/vm.json", "/etc/antipode/web.toml"])
        self.assertEqual(process.run(["rpm", "-qp", "--qf", "%{LICENSE}", "--nosignature", path]).stdout, "Apache-2.0")

    def test_programs_run(self):
        for name in os.listdir(os.path.join(self.root, "usr/bin")):
            if name.startswith("antipode"):
                self.assertIn(name, self.run_in_root(f"/usr/bin/{name}", "--help").stdout)

    def test_every_program_is_in_it(self):
        for name in ("antipode", "antipode-replicator", "antipode-tiebreaker", "antipode-web", "antipode-ca"):
            self.assertTrue(os.access(os.path.join(self.root, "usr/bin", name), os.X_OK), name)

    def test_completion_is_found_for_every_program(self):
        """As bash-completion looks for it: by the command's name, before anything of ours was completed."""
        folder = "/usr/share/bash-completion/completions"
        for command, word in (("antipode", "status"), ("antipode-web", "user"), ("antipode-replicator", "check"),
                              ("antipode-tiebreaker", "admin"), ("antipode-ca", "init")):
            script = (f"source {folder}/{command} && complete -p {command} >/dev/null && COMP_WORDS=({command} {word[:2]}) COMP_CWORD=1 && "
                      "_antipode && echo \"${COMPREPLY[@]}\"")
            self.assertIn(word, self.run_in_root("bash", "-c", script).stdout.split(), command)
        self.assertTrue(os.path.exists(os.path.join(self.root, folder.lstrip("/"), "antipode-dump")))

    def test_users_and_rights(self):
        for user in ("antipode-replicator", "antipode-tiebreaker", "antipode-web"):
            self.assertIn(user, self.run_in_root("id", user).stdout)
        self.assertIn("kvm", self.run_in_root("id", "antipode-replicator").stdout)
        # What names private keys is for root and the service alone.
        for folder, expected in (("vms", "3770 root antipode-keys"), ("site", "2750 root antipode-keys"),
                                 ("tiebreaker", "750 root antipode-tiebreaker")):
            shown = self.run_in_root("stat", "-c", "%a %U %G", f"/etc/antipode/{folder}").stdout.strip()
            self.assertEqual(shown, expected)

    def test_units_are_sound_and_sandboxed(self):
        units = self.units()
        self.assertEqual(len(units), 3)
        for unit in units:
            name = os.path.basename(unit).replace("@.", "@test.")
            verified = self.run_in_root("systemd-analyze", "verify", "--man=no", f"/usr/lib/systemd/system/{name}", check=False)
            complaints = [line for line in verified.stderr.splitlines() if "antipode" in line]
            self.assertEqual(complaints, [], verified.stderr)
            shown = process.run(["systemd-analyze", "security", "--offline=true", unit], env={"SYSTEMD_LOG_LEVEL": "err"}).stdout
            exposure = float(re.search(r"Overall exposure level for \S+: ([0-9.]+)", shown).group(1))
            print(f"{os.path.basename(unit)}: exposure {exposure}", flush=True)
            self.assertLessEqual(exposure, EXPOSURE_MAX, shown)

    def test_example_configuration(self):
        self.run_in_root("antipode-web", "--config", "/etc/antipode/web.toml", "check")
        # The example names keys that only an administrator can make: it is read, and the first of them is missing.
        checked = self.run_in_root("antipode-replicator", "check", "/etc/antipode/vms/example", check=False)
        self.assertNotEqual(checked.returncode, 0)
        self.assertEqual(len(checked.stderr.strip().splitlines()), 1, checked.stderr)
        self.assertIn("/etc/antipode/vms/example/", checked.stderr)

    def make_certificates(self):
        tiebreaker = "/etc/antipode/tiebreaker"
        self.run_in_root("antipode-ca", "init", "--directory", "/etc/antipode/ca")
        self.run_in_root("antipode-ca", "sign", "--directory", "/etc/antipode/ca", "--tiebreaker", "t", "--host", "127.0.0.1",
                         "--out", f"{tiebreaker}/tiebreaker")
        self.run_in_root("antipode-ca", "sign", "--directory", "/etc/antipode/ca", "--site", "site-a", "--pairs", "*",
                         "--out", "/root/site-a")
        self.run_in_root("sh", "-c", f"cp /etc/antipode/ca/ca.pem /etc/antipode/ca/ca.crl {tiebreaker}/ &&"
                                     f"chown antipode-tiebreaker: {tiebreaker}/tiebreaker.key {tiebreaker}/ca.crl")

    def notify_socket(self):
        """Where systemd would hear that the service is ready."""
        path = os.path.join(self.root, "run/notify")
        if os.path.exists(path):
            os.unlink(path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        listener.bind(path)
        os.chmod(path, 0o666)
        listener.settimeout(20)
        self.addCleanup(listener.close)
        return listener

    def started(self, service):
        """The service as its unit would start it: its command, its user, its state directory; ready when it says so."""
        with open(os.path.join(self.root, f"usr/lib/systemd/system/antipode-{service}.service"), encoding="utf-8") as file:
            command = re.search(r"^ExecStart=(.*)$", file.read(), re.MULTILINE).group(1).split()
        user = f"antipode-{service}"
        self.run_in_root("install", "-d", "-o", user, "-g", user, "-m", "700", f"/var/lib/antipode/{service}")
        notified = self.notify_socket()
        daemon = self.owned(process.Process(service, self.in_root(*command, user=user), self.path(f"{service}.log"),
                                            env={"NOTIFY_SOCKET": "/run/notify"}))
        message = wait.until("READY=1", lambda: notified.recv(4096).decode(), 20)
        self.assertIn("READY=1", message)
        self.assertNotEqual(os.stat(f"/proc/{daemon.pid}").st_uid, 0)
        return daemon, notified

    def test_tiebreaker_starts_and_speaks_tls(self):
        self.make_certificates()
        daemon, notified = self.started("tiebreaker")
        self.assertEqual(self.handshake(daemon.pid, with_certificate=True), "TLSv1.3")
        with self.assertRaises((ssl.SSLError, ConnectionError)):
            self.handshake(daemon.pid, with_certificate=False)
        self.assertEqual(daemon.stop(), 0)
        self.assertIn("STOPPING=1", notified.recv(4096).decode())

    def test_web_starts_and_answers(self):
        daemon, _ = self.started("web")

        def connect():
            netns.bring_loopback_up()
            return socket.create_connection(("127.0.0.1", 8080), timeout=5)

        connection = http.client.HTTPConnection("127.0.0.1:8080")
        connection.sock = netns.made_in_process(daemon.pid, connect)
        connection.request("GET", "/")
        self.assertEqual(connection.getresponse().status, 200)
        connection.close()
        self.assertEqual(daemon.stop(), 0)

    def handshake(self, pid, with_certificate):
        """The protocol's version, from within the daemon's network."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(os.path.join(self.root, "etc/antipode/ca/ca.pem"))
        if with_certificate:
            context.load_cert_chain(os.path.join(self.root, "root/site-a.pem"), os.path.join(self.root, "root/site-a.key"))

        def connect():
            netns.bring_loopback_up()
            return socket.create_connection(("127.0.0.1", PORT), timeout=5)

        with context.wrap_socket(netns.made_in_process(pid, connect), server_hostname="127.0.0.1") as connection:
            # In TLS 1.3 a refused client hears of it when it first reads. A good one is waited for: its hello is due.
            connection.settimeout(1)
            try:
                if connection.recv(1) == b"":
                    raise ConnectionError("closed")
            except TimeoutError:
                pass
            return connection.version()

    def test_removal_keeps_what_matters(self):
        root = self.root
        kept = os.path.join(root, "var/lib/antipode/web1")
        os.makedirs(kept, exist_ok=True)
        with open(os.path.join(kept, "disk.img"), "w", encoding="utf-8") as file:
            file.write("the last copy")
        removed = self.run_in_root("dpkg", "--purge", "antipode", "antipode-tiebreaker")
        self.assertEqual(removed.returncode, 0)
        self.assertTrue(os.path.exists(os.path.join(kept, "disk.img")))
        again = self.run_in_root("dpkg", "-i", "/antipode.deb", "/antipode-tiebreaker.deb")
        self.assertEqual(again.returncode, 0)
        # Only who says so loses them, and nobody what is of another package.
        others = [os.path.join(root, "var/lib/antipode", name) for name in ("tiebreaker/kept", "disks/web1.events")]
        for path in others:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", encoding="utf-8") as file:
                file.write("of another package")
        self.run_in_root("sh", "-c", "echo 'antipode antipode/delete-data boolean true' | debconf-set-selections && "
                                     "DEBIAN_FRONTEND=noninteractive dpkg --purge antipode")
        self.assertFalse(os.path.exists(kept))
        for path in others:
            self.assertTrue(os.path.exists(path), path)
        self.run_in_root("dpkg", "-i", "/antipode.deb")

    def test_what_a_site_keeps_comes_back_at_another_host(self):
        """Users have other numbers there: the copy of OPERATIONS' "Replacing a dead site" carries their names."""
        keys = "/etc/antipode/vms/moved"
        self.run_in_root("install", "-d", "-o", "antipode-web", "-g", "antipode-keys", "-m", "2750", keys)
        self.run_in_root("sh", "-c", f"echo secret > {keys}/channel.key && chown antipode-web:antipode-keys {keys}/channel.key && "
                                     f"chmod 640 {keys}/channel.key && tar -C /etc -czpf /root/site.tgz antipode && rm -r {keys}")
        uid = int(self.run_in_root("id", "-u", "antipode-web").stdout)
        self.run_in_root("usermod", "-u", str(uid + 1000), "antipode-web")
        self.addCleanup(self.run_in_root, "usermod", "-u", str(uid), "antipode-web")
        self.addCleanup(self.run_in_root, "rm", "-r", keys)
        self.run_in_root("tar", "-C", "/etc", "-xzpf", "/root/site.tgz")
        shown = self.run_in_root("stat", "-c", "%a %U %G", keys, f"{keys}/channel.key").stdout.split("\n")
        self.assertEqual(shown[:2], ["2750 antipode-web antipode-keys", "640 antipode-web antipode-keys"])

    def test_debugging_symbols_are_apart(self):
        for name in ("antipode", "antipode-tiebreaker"):
            self.assertIn((f"{name}-dbgsym", "ddeb"), self.packages)
        described = process.run(["file", os.path.join(self.root, "usr/bin/antipode-replicator")]).stdout
        self.assertIn(", stripped", described)

    def test_lintian(self):
        if not shutil.which("lintian"):
            self.skipTest("lintian is not installed")
        names = [name for name, kind in self.packages if kind == "deb" and not name.endswith("-dbgsym")]
        self.assertLessEqual({"antipode", "antipode-tiebreaker"}, set(names))
        for name in names:
            found = process.run(["lintian", "--allow-root", "--fail-on", "error,warning", self.packages[name, "deb"]], check=False, seconds=300)
            self.assertEqual(found.returncode, 0, found.stdout + found.stderr)


if __name__ == "__main__":
    case.main()
