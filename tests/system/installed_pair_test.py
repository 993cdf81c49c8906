#!/usr/bin/env python3
"""Two installed sites, from the package to a protected VM, by docs/OPERATIONS.md and as the units' own users: root defines the
VM at one site, the pages pair it, the replicators start. And who may read and change what, by the real users' rights.

The sites share one clean root and one network; each has its own /etc/antipode, /run/antipode and /var/lib/antipode."""

import json
import os
import re
import shutil
import socket
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import case, clean_root, guests, netns, process, requirements, wait  # noqa: E402  pylint: disable=wrong-import-position

requirements.require(clean_root.missing(), requirements.missing_for_namespaces(), requirements.missing_for_guests())

PASSWORD = "correct horse battery\n"
VM = "web1"
TIEBREAKER = "127.0.0.33"
OWNED = {"etc": "/etc/antipode", "run": "/run/antipode", "lib": "/var/lib/antipode"}


class Machine:
    """A host: the clean root with its own configuration, sockets and state."""

    def __init__(self, test, name, address):
        self.test = test
        self.clean = test.clean
        self.name = name
        self.address = address
        self.mounts = [("/proc", "/proc")]
        os.makedirs(os.path.join(test.folder, name))
        for part, where in OWNED.items():
            copy = os.path.join(test.folder, name, part)
            process.run(["cp", "-a", self.clean.path(where), copy])
            self.mounts.append((copy, where))
        self.folders = {part: os.path.join(test.folder, name, part) for part in OWNED}
        os.chmod(os.path.join(test.folder, name), 0o755)

    def path(self, part, *names):
        return os.path.join(self.folders[part], *names)

    def command(self, *argv, user=None):
        """As an administrator would type it; as another user with runuser."""
        binds = "".join(f"mount --bind {what} {self.clean.path(where)} && " for what, where in self.mounts)
        prefix = ["runuser", "-u", user, "--"] if user else []
        return ["unshare", "--mount", "--", "sh", "-c", f'{binds}exec chroot {self.clean.folder} "$@"', "sh", *prefix, *argv]

    def run(self, *argv, user=None, check=True, text=None):
        done = process.run(self.command(*argv, user=user) if text is None else
                           ["sh", "-c", 'printf %s "$0" | "$@"', text, *self.command(*argv, user=user)],
                           namespace=self.test.namespace, check=check, env={"HOME": "/root"}, seconds=120)
        return done

    def refused(self, *argv, user):
        done = self.run(*argv, user=user, check=False)
        self.test.assertNotEqual(done.returncode, 0, f"{user} at {self.name} may {' '.join(argv)}: {done.stdout}")
        return done.stderr

    def start(self, unit, instance=""):
        """The unit's command as the unit's user; ready when it says so."""
        notify = os.path.join(self.test.folder, f"{self.name}-{unit}.notify")
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        if os.path.exists(notify):
            os.unlink(notify)  # of its start before this one
        listener.bind(notify)
        os.chmod(notify, 0o666)
        listener.settimeout(60)
        self.test.addCleanup(listener.close)
        inside = f"/run/{self.name}.notify"
        with open(self.clean.path(inside), "w", encoding="utf-8"):
            pass
        command = self.clean.unit_command(f"{unit}.service", instance, mounts=[*self.mounts, (notify, inside)])
        daemon = self.test.owned(process.Process(f"{unit} at {self.name}", command, self.test.path(f"{self.name}-{unit}.log"),
                                                 namespace=self.test.namespace, env={"NOTIFY_SOCKET": inside}))
        try:
            heard = listener.recv(4096).decode()
        except TimeoutError:
            self.test.fail(f"{daemon.name} is not ready:\n{daemon.output()[-2000:]}")
        self.test.assertIn("READY=1", heard)
        self.test.assertNotEqual(os.stat(f"/proc/{daemon.pid}").st_uid, 0)
        return daemon

    def antipode(self, *words, text=None):
        return self.run("antipode", *words, text=text).stdout

    def status(self):
        """No word while the page has not found the replicator yet."""
        done = self.run("antipode", "--json", "status", VM, check=False)
        return json.loads(done.stdout) if done.returncode == 0 else {"word": ""}

    def mode(self, path):
        return self.run("stat", "-c", "%a %U %G", path).stdout.strip()


class InstalledPair(case.Case):
    @classmethod
    def setUpClass(cls):
        cls.packages = clean_root.build_packages("pair-test", kinds="DEB")
        cls.clean = clean_root.CleanRoot(os.path.join(os.path.dirname(cls.packages["antipode", "deb"]), "root"))
        cls.addClassCleanup(cls.clean.discard)
        cls.clean.install(cls.packages)
        # What a boot does; the root has no /proc for the installation to do it.
        process.run(["systemd-tmpfiles", f"--root={cls.clean.folder}", "--create", "antipode.conf", "antipode-tiebreaker.conf"])
        # As udev makes it: the replicator has it by its group alone.
        kvm = os.stat("/dev/kvm").st_rdev
        cls.clean.run("sh", "-c", f"rm -f /dev/kvm && mknod /dev/kvm c {os.major(kvm)} {os.minor(kvm)} && "
                                  "chgrp kvm /dev/kvm && chmod 660 /dev/kvm")

    def setUp(self):
        super().setUp()
        os.chmod(self.folder, 0o755)
        netns.sweep()
        self.namespace = f"{netns.PREFIX}{os.getpid()}-hosts"
        netns.ip("netns", "add", self.namespace)
        self.addCleanup(netns.ip, "netns", "delete", self.namespace)
        netns.ip("link", "set", "lo", "up", namespace=self.namespace)

    def start_tiebreaker(self):
        host = Machine(self, "third", TIEBREAKER)
        folder = "/etc/antipode/tiebreaker"
        shutil.rmtree(self.clean.path("root/ca"), ignore_errors=True)  # of the test before this one
        host.run("antipode-ca", "init", "--directory", "/root/ca")
        host.run("antipode-ca", "sign", "--directory", "/root/ca", "--tiebreaker", "t1", "--host", TIEBREAKER, "--out", f"{folder}/tiebreaker")
        host.run("sh", "-c", f"cp /root/ca/ca.pem /root/ca/ca.crl {folder}/ && "
                             f"chown antipode-tiebreaker: {folder}/tiebreaker.key {folder}/ca.crl")
        host.start("antipode-tiebreaker")
        return host

    def start_site(self, name, address):
        site = Machine(self, name, address)
        with open(site.path("etc", "web.toml"), encoding="utf-8") as file:
            text = file.read()
        for key, value in (("address", f"{address}:8443"), ("tls", None), ("name", name), ("tiebreaker", f"{TIEBREAKER}:7200")):
            text, count = re.subn(rf"^#{key} = .*$", f'{key} = "{value}"' if value else f"{key} = true", text, count=1, flags=re.MULTILINE)
            self.assertEqual(count, 1, key)
        text, count = re.subn(r'^#address = .*$', f'address = "{address}"', text, count=1, flags=re.MULTILINE)
        self.assertEqual(count, 1)
        with open(site.path("etc", "web.toml"), "w", encoding="utf-8") as file:
            file.write(text)
        site.run("antipode-ca", "sign", "--directory", "/root/ca", "--site", name, "--pairs", "*", "--out", "/etc/antipode/site/site")
        site.run("sh", "-c", "cp /root/ca/ca.pem /etc/antipode/site/ && cd /etc/antipode/site && "
                             "chown root:antipode-keys site.key && chmod 640 site.key")
        site.run("antipode-web", "user", "add", "admin", user="antipode-web", text=PASSWORD)
        token = site.run("antipode-web", "token", "add", "root", "--role", "admin", user="antipode-web").stdout
        folder = os.path.join(self.folder, name, "root")
        process.run(["cp", "-a", self.clean.path("root"), folder])
        site.mounts.append((folder, "/root"))
        os.makedirs(os.path.join(folder, ".config/antipode"))
        with open(os.path.join(folder, ".config/antipode/token"), "w", encoding="utf-8") as file:
            file.write(token)
        site.start("antipode-web")
        return site

    def define_vm(self, site):
        """The VM's files, and its definition by root, as the document says."""
        guest = guests.disk_writer()
        self.vm_files(site, guest)
        data = f"/var/lib/antipode/{VM}"
        definition = {"boot-source": {"kernel_image_path": f"{data}/kernel.elf", "boot_args": guest.arguments},
                      "drives": [{"drive_id": "data", "path_on_host": f"{data}/data.img", "is_root_device": False, "is_read_only": False}],
                      "machine-config": {"vcpu_count": 1, "mem_size_mib": guest.memory_mib}}
        with open(site.path("lib", "new.json"), "w", encoding="utf-8") as file:
            json.dump(definition, file)
        site.run("antipode-web", "vm", "add", VM, "--definition", "/var/lib/antipode/new.json")
        return guest

    def vm_files(self, site, guest):
        site.run("install", "-d", "-o", "antipode-replicator", "-g", "antipode-replicator", "-m", "750", f"/var/lib/antipode/{VM}")
        shutil.copy(guest.kernel, site.path("lib", VM, "kernel.elf"))
        with open(site.path("lib", VM, "data.img"), "wb") as disk:
            disk.truncate(guest.disk_bytes)
        site.run("sh", "-c", f"cd /var/lib/antipode/{VM} && chown antipode-replicator:antipode-replicator * && chmod 600 data.img")

    def test_from_the_package_to_a_protected_vm(self):
        self.start_tiebreaker()
        a, b = self.start_site("prague", "127.0.0.31"), self.start_site("lisbon", "127.0.0.32")
        guest = self.define_vm(a)
        self.vm_files(b, guest)
        code = a.antipode("pairing", "offer", VM)
        code = re.search(r"([0-9A-Z]{5}-)+[0-9A-Z]{1,5}", code).group(0)
        b.antipode("pairing", "join", text=code + "\n")
        for site in (a, b):
            self.check_rights(site)
            checked = site.run("antipode-replicator", "check", f"/etc/antipode/vms/{VM}", user="antipode-replicator", check=False)
            self.assertEqual(checked.returncode, 0, checked.stdout + checked.stderr)
        # What root wrote at the first site is not the page's to change; at the second the page wrote it.
        self.assertEqual(a.mode(f"/etc/antipode/vms/{VM}/vm.json"), "640 root antipode-keys")
        self.assertEqual(b.mode(f"/etc/antipode/vms/{VM}/vm.json").split()[1:], ["antipode-web", "antipode-keys"])
        for attempt in ("echo {} > vm.json", "rm -f vm.json", "mv vm.json old.json", f"mv ../{VM} ../other", "echo >> pair.toml && rm vm.json"):
            a.refused("sh", "-c", f"cd /etc/antipode/vms/{VM} && {attempt}", user="antipode-web")
        daemons = [site.start("antipode-replicator@", VM) for site in (a, b)]
        for site in (a, b):  # each page looks at its own replicator when it comes to it
            wait.until("the VM is protected", lambda site=site: site.status()["word"] == "protected", 60, interval=0.3)
        # The page may use the control socket, the disk's content is none of its business.
        self.assertEqual(a.mode(f"/run/antipode/{VM}.sock"), "660 antipode-replicator antipode")
        for site in (a, b):
            site.refused("cat", f"/var/lib/antipode/{VM}/data.img", user="antipode-web")
            site.refused("ls", f"/var/lib/antipode/{VM}", user="antipode-web")
        self.upgrade(a, b, daemons)
        # Unpaired from the page, what it made is gone and what root made is there.
        wait.until("the page sees that it has stopped", lambda: a.status()["word"] not in ("solo", "protected"), 30, interval=0.3)
        a.antipode("pairing", "unpair", VM, "--confirm", VM)
        self.assertEqual(os.listdir(a.path("etc", "vms", VM)), ["vm.json"])

    def upgrade(self, a, b, daemons):
        """The package is installed again over what runs: nothing of a protection ends by it. Then, as the document says, the backup
        is started again, the VM switched over, and the other site started again."""
        self.clean.install(self.packages)
        self.assertTrue(all(daemon.running() for daemon in daemons))
        self.assertEqual(a.status()["word"], "protected")
        at_a, at_b = daemons
        at_b.stop()
        wait.until("the VM goes on alone", lambda: a.status()["word"] == "solo", 30, interval=0.3)
        at_b = b.start("antipode-replicator@", VM)
        wait.until("the VM is protected", lambda: a.status()["word"] == "protected", 60, interval=0.3)
        a.antipode("switchover", VM, "--confirm", VM)
        wait.until("the other site has it", lambda: b.status()["word"] == "protected", 60, interval=0.3)
        at_a.stop()
        wait.until("the VM goes on alone", lambda: b.status()["word"] == "solo", 30, interval=0.3)
        self.replace(a, b, guests.disk_writer(), at_b)

    def replace(self, site, survivor, guest, running):
        """A site that lost its disks and state and kept its keys comes as a new backup, is seeded, and takes over."""
        shutil.rmtree(site.path("lib", VM))
        self.vm_files(site, guest)
        replaced = site.start("antipode-replicator@", VM)
        wait.until("the VM is protected", lambda: survivor.status()["word"] == "protected", 60, interval=0.3)
        running.kill()
        wait.until("the replaced site has it", lambda: site.status()["word"] == "solo", 60, interval=0.3)
        before = len(site.antipode("console", VM))
        wait.until("the VM works there", lambda: len(site.antipode("console", VM)) > before, 30, interval=0.3)
        replaced.stop()

    def check_rights(self, site):
        folder = f"/etc/antipode/vms/{VM}"
        for key in (f"{folder}/channel.key", f"{folder}/heartbeat.key", "/etc/antipode/site/site.key"):
            site.run("cat", key, user="antipode-replicator")
            site.refused("cat", key, user="antipode-tiebreaker")
            site.refused("cat", key, user="nobody")
        for secret in ("/var/lib/antipode/web/key.pem", "/var/lib/antipode/web/web.db"):
            site.run("dd", "status=none", f"if={secret}", "of=/dev/null", user="antipode-web")
            site.refused("cat", secret, user="antipode-replicator")
        for attempt in ("echo >> pair.toml", "rm -f pair.toml", "mv channel.key other.key", "echo >> vm.json"):
            site.refused("sh", "-c", f"cd {folder} && {attempt}", user="antipode-replicator")
        site.refused("sh", "-c", "echo >> /etc/antipode/web.toml", user="antipode-web")
        # Who may use the control sockets may not read keys.
        site.run("sh", "-c", "id guardian >/dev/null 2>&1 || useradd -G antipode guardian")
        site.refused("cat", f"{folder}/channel.key", user="guardian")

    def test_a_folder_that_the_page_may_not_write(self):
        """Clear words, and the command that puts it right."""
        self.start_tiebreaker()
        site = self.start_site("prague", "127.0.0.31")
        self.define_vm(site)
        site.run("chmod", "755", f"/etc/antipode/vms/{VM}")
        site.run("chown", "root:root", f"/etc/antipode/vms/{VM}")
        site.run("chmod", "644", f"/etc/antipode/vms/{VM}/vm.json")
        offered = site.run("antipode", "pairing", "offer", VM, check=False)
        self.assertIn(f"as root: antipode-web vm add {VM}", offered.stdout + offered.stderr)
        site.run("antipode-web", "vm", "add", VM)
        self.assertEqual(site.mode(f"/etc/antipode/vms/{VM}"), "3770 root antipode-keys")
        self.assertRegex(site.antipode("pairing", "offer", VM), r"([0-9A-Z]{5}-)+")


if __name__ == "__main__":
    case.main()
