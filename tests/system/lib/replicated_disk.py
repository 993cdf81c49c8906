"""A group of replicated disks at two sites on this machine, over loopback: one site is served by nbdkit with our plugin, or both
only hold their copies. Their control sockets are asked directly, so that a condition can be looked at often."""

import json
import os
import shutil
import socket

from . import paths, process, wait

PLUGIN_NAME = "nbdkit-antipode-plugin.so"
# Not whatever python3 comes first in the path: the module is the distribution's.
NBDSH = ["/usr/bin/python3", "-m", "nbd"]


def missing_tools(*tools):
    """Why a test of replicated disks cannot run, or None."""
    return next((f"{tool} is not installed" for tool in ("nbdkit", "nbdcopy", "nbdsh", "qemu-img", *tools) if not shutil.which(tool)), None)


def plugin():
    return os.path.join(paths.build(), "bin", PLUGIN_NAME)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def make_certificates(folder):
    """An authority in ca/ and a certificate for each site."""
    authority = os.path.join(folder, "ca")
    process.run([paths.program("antipode-ca"), "init", "--directory", authority])
    for name in ("site-a", "site-b"):
        process.run([paths.program("antipode-ca"), "sign", "--directory", authority, "--web", name, "--host", "127.0.0.1",
                     "--out", os.path.join(folder, name)])


class Refused(ValueError):
    """An order that the service refused; the text says why."""


class Ended(ConnectionError):
    """Nobody is there, because the process has ended; the text says how."""


class Site:
    """One site's half. `owner` ends what is started: a test case, or anything else with owned()."""

    def __init__(self, owner, folder, letter, address, listens, sections="", disks=("sda",)):
        self.owner, self.letter, self.disks = owner, letter, disks
        self.folder = os.path.join(folder, letter)
        os.makedirs(self.folder, exist_ok=True)
        self.config = os.path.join(self.folder, "group.toml")
        self.socket = os.path.join(self.folder, "nbd.sock")
        self.log_folder = folder
        self.address, self.listens = address, listens
        self.link_settings = ""
        self.configure(sections)
        self.process = None
        self.starts = 0

    def configure(self, sections="", store=None):
        """`sections`: more of the file; [replication] is among it or of the default, mode sync. `store`: of the first disk."""
        other = "b" if self.letter == "a" else "a"
        if "[replication]" not in sections:
            sections = '[replication]\nmode = "sync"\n' + sections
        with open(self.config, "w", encoding="utf-8") as file:
            file.write(f"""group = "web1"
control_socket = "control.sock"
[link]
peer = "site-{other}"
{"listen" if self.listens else "connect"} = "{self.address}"
ca = "../ca/ca.pem"
certificate = "../site-{self.letter}.pem"
key = "../site-{self.letter}.key"
{self.link_settings}
{sections}
""")
            for name in self.disks:
                file.write(f'[[disk]]\nname = "{name}"\nstore = "{store or name + ".img"}"\nmetadata = "{name}.img.antipode"\n')
                store = None

    def image_of(self, disk):
        return os.path.join(self.folder, f"{disk}.img")

    @property
    def image(self):
        return self.image_of(self.disks[0])

    def make_images(self, size):
        for disk in self.disks:
            with open(self.image_of(disk), "wb") as image:
                image.truncate(size)

    def command(self, name, *arguments, check=True):
        return process.run([paths.program("disksync"), name, self.config, *arguments], check=check)

    def start(self, serve, options=()):
        """`options`: of nbdkit."""
        self.starts += 1
        if os.path.exists(self.socket):
            os.unlink(self.socket)
        argv = [paths.program("disksync"), "attach", self.config]
        if serve:
            argv = ["nbdkit", "--foreground", "--exit-with-parent", "--threads", "16", "-U", self.socket,
                    *options, plugin(), f"config={self.config}"]
        name = f"{self.letter}{self.starts}"
        self.process = self.owner.owned(process.Process(name, argv, os.path.join(self.log_folder, f"{name}.log")))
        wait.until(f"site {self.letter} answers", self.answers, seconds=30)

    def answers(self):
        if not self.process.running():
            raise AssertionError(f"site {self.letter} has ended: {self.process.output()[-2000:]}")
        return self.try_status() is not None

    def ask(self, line):
        """The answer to a line on the control socket; Refused if it is an error, OSError if nobody is there."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(90)
            try:
                connection.connect(os.path.join(self.folder, "control.sock"))
            except (ConnectionRefusedError, FileNotFoundError) as error:
                if self.process is None or self.process.running():
                    raise
                last = self.process.output().splitlines()[-1:]
                raise Ended(f"site {self.letter} has ended with {self.process.exit_code()}, its last words: {last}") from error
            connection.sendall(line.encode() + b"\n")
            text = b""
            while piece := connection.recv(65536):
                text += piece
        answer = json.loads(text)
        if "error" in answer:
            raise Refused(answer["error"])
        return answer

    def status(self):
        return self.ask("status")

    def try_status(self):
        try:
            return self.status()
        except (OSError, ValueError):
            return None

    def disk(self):
        return self.status()["disks"][0]

    def events(self):
        return self.ask("events")["events"]

    def has_event(self, key, since=0):
        return any(event["event"] == key for event in self.events()[since:])

    def uri_of(self, disk):
        return f"nbd+unix:///{disk}?socket={self.socket}"

    @property
    def uri(self):
        return self.uri_of(self.disks[0])

    def nbdsh(self, code, check=True, env=None):
        return process.run([*NBDSH, "-u", self.uri, "-c", code], check=check, env=env)

    def settled(self):
        status = self.try_status()
        if status is None or status["link"] != "connected":
            return False
        return all(disk["state"] == "UpToDate" and disk["marked_blocks"] == 0 and disk["phase"] == "idle" for disk in status["disks"])


class Pair:
    """Both sites, the first listens. `port`: where the other one dials; a line emulator may sit between."""

    def __init__(self, owner, folder, size, sections="", dial=None, disks=("sda",)):
        make_certificates(folder)
        self.port = free_port()
        self.a = Site(owner, folder, "a", f"127.0.0.1:{self.port}", True, sections, disks)
        self.b = Site(owner, folder, "b", f"127.0.0.1:{dial or self.port}", False, sections, disks)
        self.sites = (self.a, self.b)
        for site in self.sites:
            site.make_images(size)

    def wait_in_sync(self, seconds=60):
        wait.until("both copies are up to date", lambda: all(site.settled() for site in self.sites), seconds=seconds)

    def create(self, *options):
        self.a.command("create", *options)
        self.b.command("create", *(options if "--both-empty" in options else ()))
