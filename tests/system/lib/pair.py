"""A protected VM in a topology: its files at both sites, its replicators, and what they say of themselves."""

import json
import os

from . import control, netns, paths, process, wait
from .credentials import SITE_NAME

MAC = "02:a0:77:0a:00:{:02x}"
PORTS_PER_PAIR = 10
FIRST_PORT = 7100
TIEBREAKER_PORT = 7000


class Site:
    """One site of a pair: a directory with its configuration, its disk, its process."""

    def __init__(self, pair, letter):
        self.pair = pair
        self.letter = letter
        self.name = SITE_NAME[letter]
        self.folder = os.path.join(pair.folder, self.name)
        self.config = os.path.join(self.folder, pair.name)
        self.disk = os.path.join(self.folder, "disk.img")
        self.socket = os.path.join(self.folder, "c.sock")
        self.state = os.path.join(self.folder, "state")
        self.process = None
        self.starts = 0

    @property
    def log(self):
        return os.path.join(self.folder, f"replicator-{self.starts}.log")

    def start(self, env=None):
        self.starts += 1
        self.process = process.Process(
            f"replicator of {self.pair.name} at {self.name}", [paths.program("antipode-replicator"), "run", self.config], self.log,
            namespace=self.pair.topology.name(self.letter), env=env)
        self.pair.processes.append(self.process)

    def check(self):
        """`antipode-replicator check`: the CompletedProcess."""
        return process.run([paths.program("antipode-replicator"), "check", self.config],
                           namespace=self.pair.topology.name(self.letter), check=False)

    def kill(self):
        return self.process.kill()

    def status(self):
        return control.status(self.socket)

    def wait_for_state(self, *states, seconds=20):
        """The status when its state is one of these."""

        def reached():
            if not self.process.running():
                raise AssertionError(f"{self.process.name} ended with {self.process.exit_code()}:\n{self.process.output()[-3000:]}")
            status = self.status()
            return status if status["state"] in states else None

        return wait.until(f"{self.name} is {' or '.join(states)}", reached, seconds)

    def console(self):
        return control.call(self.socket, "console")["text"]

    def events(self):
        return control.call(self.socket, "events")["events"]

    def wait_for_console(self, text, seconds=30):
        return wait.until(f"'{text}' on the console at {self.name}", lambda: self._line(text), seconds)

    def _line(self, text):
        lines = [line for line in self.console().splitlines() if text in line]
        return lines[-1] if lines else None


class Pair:
    """site-a begins as the primary. index keeps the ports, TAPs and addresses of several pairs apart."""

    def __init__(self, topology, wan, folder, guest, credentials, name="vm", index=0, digest_interval_ms=None,
                 heartbeat_ms=None, settings=None):
        self.topology = topology
        self.wan = wan
        self.folder = folder
        self.guest = guest
        self.credentials = credentials
        self.name = name
        self.index = index
        self.heartbeat_ms = heartbeat_ms  # a test of something else than detection survives a busy machine with more
        # {section: lines of TOML}: what pair.toml says beyond what every pair needs.
        self.settings = dict(settings or {})
        if digest_interval_ms is not None:
            self.settings["replay"] = f"digest_interval_ms = {digest_interval_ms}\n" + self.settings.get("replay", "")
        self.channel_port = FIRST_PORT + PORTS_PER_PAIR * index
        self.heartbeat_port = self.channel_port + 1
        self.tap = f"tap{index}"
        self.guest_address = netns.GUEST_ADDRESS.rpartition(".")[0] + f".{15 + index}"
        self.processes = []
        self.sites = {letter: Site(self, letter) for letter in ("a", "b")}
        self.a, self.b = self.sites["a"], self.sites["b"]
        for site in self.sites.values():
            self._write_site(site)
        if wan is not None:
            self._forward()

    def _forward(self):
        self.wan.forward_tcp("a", "b", self.channel_port)
        self.wan.forward_tcp("b", "a", self.channel_port)
        self.wan.forward_udp("a", "b", self.heartbeat_port)

    def _write_site(self, site):
        os.makedirs(site.config)
        os.makedirs(site.state)
        if self.guest.network:
            self.topology.add_tap(site.letter, self.tap)
        with open(site.disk, "wb") as disk:
            disk.truncate(self.guest.disk_bytes)
        self.credentials.install(site.letter, self.name, site.config)
        with open(os.path.join(site.config, "vm.json"), "w", encoding="utf-8") as file:
            json.dump(self.vm_definition(site), file, indent=2)
        with open(os.path.join(site.config, "pair.toml"), "w", encoding="utf-8") as file:
            file.write(self.pair_settings(site))

    def vm_definition(self, site):
        address = f"{self.guest_address}/{netns.LAN_PREFIX}"
        boot = {"kernel_image_path": self.guest.kernel, "boot_args": self.guest.arguments.replace("{address}", address)}
        if self.guest.initrd:
            boot["initrd_path"] = self.guest.initrd
        definition = {
            "boot-source": boot,
            "drives": [{"drive_id": "data", "path_on_host": site.disk, "is_root_device": False, "is_read_only": False}],
            "machine-config": {"vcpu_count": self.guest.vcpus, "mem_size_mib": self.guest.memory_mib},
        }
        if self.guest.mode:
            definition["machine-config"]["mode"] = self.guest.mode
        if self.guest.tsc:
            definition["machine-config"]["tsc"] = self.guest.tsc
        if self.guest.network:
            definition["network-interfaces"] = [
                {"iface_id": "eth0", "host_dev_name": self.tap, "guest_mac": MAC.format(self.index + 1)}]
        return definition

    def pair_settings(self, site):
        other = "b" if site.letter == "a" else "a"
        own, wan = netns.SITE_ADDRESS[site.letter], netns.WAN_ADDRESS[site.letter]
        settings = f"""
[pair]
name = "{self.name}"
site = "{site.name}"
peer_site = "{SITE_NAME[other]}"
role = "{'primary' if site.letter == 'a' else 'backup'}"
state_directory = "{site.state}"
[channel]
listen = "tcp://{own}:{self.channel_port}"
peer = "tcp://{wan}:{self.channel_port}"
own_key = "channel.key"
peer_key = "peer.pub"
[heartbeat]
listen = "{own}:{self.heartbeat_port}"
peer = "{wan}:{self.heartbeat_port}"
key = "heartbeat.key"
interval_ms = {self.heartbeat_ms or 20}
[tiebreaker]
address = "{wan}:{TIEBREAKER_PORT}"
ca = "ca.pem"
certificate = "site.pem"
key = "site.key"
[control]
socket = "{site.socket}"
"""
        for section, lines in self.settings.items():
            if f"[{section}]\n" not in settings:
                settings += f"[{section}]\n"
            settings = settings.replace(f"[{section}]\n", f"[{section}]\n{lines.format(own=own, wan=wan)}\n")
        return settings

    def start(self, seconds=30):
        """Both sites, until the pair is protected and the guest works."""
        self.b.start()
        self.a.start()
        self.wait_until_protected(seconds)

    def wait_until_protected(self, seconds=30):
        def protected():
            for site in self.sites.values():
                if not site.process.running():
                    raise AssertionError(f"{site.process.name} ended with {site.process.exit_code()}:\n{site.process.output()[-3000:]}")
            states = [site.status() for site in self.sites.values()]
            roles = {status["role"] for status in states}
            return states if roles == {"primary", "backup"} and all(
                status["protection"] == "protected" for status in states) else None

        return wait.until(f"{self.name} is protected", protected, seconds)

    def primary(self):
        """The site that runs the VM for the outside, or None."""
        for site in self.sites.values():
            try:
                if site.process and site.process.running() and site.status()["state"] in ("primary", "solo", "pairing"):
                    return site
            except OSError:
                pass
        return None

    def other(self, site):
        return self.b if site is self.a else self.a

    def close(self):
        for started in self.processes:
            started.discard()


class LedgerClient:
    """ledger_client.py in the client's namespace, asking the guest of a pair."""

    def __init__(self, pair, name="client", transport=None, options=()):
        self.transport = transport or pair.guest.transports[0]
        self.log = os.path.join(pair.folder, f"{name}.acks")
        if self.transport == "udp":
            options = ["--timeout-ms", "100", *options]
        self.name = name
        program = os.path.join(paths.ROOT, "tests", "system", "clients", "ledger_client.py")
        self.process = process.Process(
            f"ledger client {name}",
            ["python3", "-B", program, "--address", f"{pair.guest_address}:7", "--transport", self.transport, "--log", self.log,
             "--name", name, *options],
            os.path.join(pair.folder, f"{name}.log"), namespace=pair.topology.name("client"))

    def acknowledged(self):
        """How many answers its log has by now."""
        try:
            with open(self.log, encoding="utf-8") as file:
                return sum('"seq"' in line for line in file)
        except FileNotFoundError:
            return 0

    def last_answer(self):
        """The newest entry of its log: request, seq, uptime_ms, rtt_ms; None before the first."""
        with open(self.log, "rb") as file:
            file.seek(max(0, os.path.getsize(self.log) - 4096))
            lines = file.read().split(b"\n")[:-1]
        return json.loads(lines[-1]) if lines and b'"seq"' in lines[-1] else None

    def wait_for_acknowledged(self, count, seconds=30):
        def enough():
            found = self.acknowledged()
            if found < count and not self.process.running():
                raise AssertionError(f"{self.process.name} ended: {self.process.output()[-2000:]}")
            return found if found >= count else None

        return wait.until(f"{count} acknowledged requests", enough, seconds)

    def stop(self, seconds=30):
        """Lets it finish what is out; (exit code, its summary)."""
        self.process.signal(15)
        code = self.process.finished(seconds)
        with open(self.log, encoding="utf-8") as file:
            lines = [json.loads(line) for line in file if line.endswith("\n")]
        summaries = [line["summary"] for line in lines if "summary" in line]
        return code, (summaries[-1] if summaries else {})

    def close(self):
        self.process.discard()
