"""The network of a test: namespaces for two sites, a tiebreaker, a client and the lines between them.

       client: bridge lan0, 10.77.10.1/24                  (a stretched VLAN: the guest's address and MAC move)
          |                    |
     site a: bridge lan0    site b: bridge lan0            each with the TAP of its guest
          |  wan0 10.77.1.1    |  wan0 10.77.2.1           tiebreaker: wan0 10.77.3.1
          +------------------ wan ------------------------------+
             10.77.1.254       10.77.2.254                  10.77.3.254        here the emulator forwards

Namespaces are named by the harness's process id, so tests do not meet; what a killed harness left behind is swept
up by the next one. Addresses can be the same everywhere, for nothing leaves its namespaces."""

import ctypes
import fcntl
import os
import re
import socket
import struct
import subprocess
import threading

PREFIX = "antipode-"
CLIENT_ADDRESS = "10.77.10.1"
GUEST_ADDRESS = "10.77.10.15"  # of the first pair; the next ones count up
LAN_PREFIX = 24
SITE_ADDRESS = {"a": "10.77.1.1", "b": "10.77.2.1", "t": "10.77.3.1", "c": "10.77.4.1"}  # c: RoutedTopology alone
WAN_ADDRESS = {"a": "10.77.1.254", "b": "10.77.2.254", "t": "10.77.3.254", "c": "10.77.4.254"}
CLONE_NEWNET = 0x40000000
SIOCSIFFLAGS = 0x8914
IFF_UP = 1
_libc = ctypes.CDLL(None, use_errno=True)


def ip(*arguments, namespace=None, check=True):
    command = ["ip"] + (["-n", namespace] if namespace else []) + list(arguments)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if check and done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def sweep():
    """Deletes namespaces of harnesses that are no more."""
    try:
        names = os.listdir("/run/netns")
    except FileNotFoundError:
        return
    for name in names:
        match = re.fullmatch(re.escape(PREFIX) + r"(\d+)-\w+", name)
        if match and not os.path.exists(f"/proc/{match.group(1)}"):
            ip("netns", "delete", name, check=False)


def enter(namespace):
    """Puts the calling thread into a namespace; sockets it makes from now on are there."""
    _enter_path(f"/run/netns/{namespace}")


def _enter_path(path):
    with open(path, "rb") as handle:
        if _libc.setns(handle.fileno(), CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"setns to {path}")


def made_in(namespace, make):
    """What make() returns, made by a thread in the namespace: a socket belongs to where it was made."""
    return _made_at(f"/run/netns/{namespace}", make)


def made_in_process(pid, make):
    """The same in the network of a process."""
    return _made_at(f"/proc/{pid}/ns/net", make)


def bring_loopback_up():
    """In the calling thread's namespace."""
    request = struct.pack("16sh22x", b"lo", IFF_UP)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, SIOCSIFFLAGS, request)


def _made_at(path, make):
    outcome = {}

    def run():
        try:
            _enter_path(path)
            outcome["value"] = make()
        except BaseException as error:  # pylint: disable=broad-except
            outcome["error"] = error

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if "error" in outcome:
        raise outcome["error"]
    return outcome["value"]


class Topology:
    ROLES = ("client", "a", "b", "t", "wan")
    SITES = ("a", "b")

    def __init__(self):
        sweep()
        self._made = []
        try:
            for role in self.ROLES:
                self._make(role)
            self._make_lan()
            for site in (*self.SITES, "t"):
                self._join(("wan", f"to-{site}"), (site, "wan0"))
                ip("address", "add", f"{WAN_ADDRESS[site]}/24", "dev", f"to-{site}", namespace=self.name("wan"))
                ip("address", "add", f"{SITE_ADDRESS[site]}/24", "dev", "wan0", namespace=self.name(site))
        except BaseException:
            self.close()
            raise

    def name(self, role):
        return f"{PREFIX}{os.getpid()}-{role}"

    def _make(self, role):
        name = self.name(role)
        ip("netns", "add", name)
        self._made.append(name)
        ip("link", "set", "lo", "up", namespace=name)
        # Nothing on the guest's network but what the test sends: no router solicitations, no group reports.
        subprocess.run(["nsenter", f"--net=/run/netns/{name}", "--", "sh", "-c",
                        "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6;"
                        "echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6"],
                       stderr=subprocess.DEVNULL, check=False)

    def _join(self, one, other):
        (role, device), (other_role, other_device) = one, other
        ip("link", "add", device, "netns", self.name(role), "type", "veth", "peer", other_device, "netns", self.name(other_role))
        ip("link", "set", device, "up", namespace=self.name(role))
        ip("link", "set", other_device, "up", namespace=self.name(other_role))

    def _bridge(self, role):
        name = self.name(role)
        ip("link", "add", "lan0", "type", "bridge", "forward_delay", "0", "stp_state", "0", "mcast_snooping", "0", namespace=name)
        ip("link", "set", "lan0", "up", namespace=name)

    def _make_lan(self):
        for role in ("client", *self.SITES):
            self._bridge(role)
        for site in self.SITES:
            self._join(("client", f"to-{site}"), (site, "to-client"))
            ip("link", "set", f"to-{site}", "master", "lan0", namespace=self.name("client"))
            ip("link", "set", "to-client", "master", "lan0", namespace=self.name(site))
        ip("address", "add", f"{CLIENT_ADDRESS}/{LAN_PREFIX}", "dev", "lan0", namespace=self.name("client"))

    def add_tap(self, site, device):
        """A TAP on the site's part of the guest network; it stays when its user dies, as a real switch port would."""
        name = self.name(site)
        ip("tuntap", "add", "dev", device, "mode", "tap", namespace=name)
        ip("link", "set", device, "master", "lan0", "up", namespace=name)

    def add_isolated_tap(self, site, device, address):
        """A TAP that leads nowhere but to this address of the site's own namespace: a drill's network."""
        name = self.name(site)
        ip("tuntap", "add", "dev", device, "mode", "tap", namespace=name)
        ip("link", "set", device, "up", namespace=name)
        ip("address", "add", address, "dev", device, namespace=name)

    def ask_udp(self, site, device, address, port, payload, seconds=0.5):
        """The answer to one datagram sent through this device; None if none comes."""

        def ask():
            asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            asking.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
            asking.settimeout(seconds)
            return asking

        with made_in(self.name(site), ask) as asking:
            try:
                asking.sendto(payload, (address, port))
                return asking.recv(2048)
            except socket.timeout:
                return None

    def set_lan(self, site, up):
        """Plugs a site's part of the guest network in or out."""
        ip("link", "set", f"to-{site}", "up" if up else "down", namespace=self.name("client"))

    def close(self):
        for name in self._made:
            ip("netns", "delete", name, check=False)
        self._made = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class RoutedTopology(Topology):
    """Three sites and the tiebreaker, who reach each other at their own addresses: the wan routes, without an emulator."""

    ROLES = ("client", "a", "b", "c", "t", "wan")
    SITES = ("a", "b", "c")

    def __init__(self):
        super().__init__()
        try:
            subprocess.run(["nsenter", f"--net=/run/netns/{self.name('wan')}", "--", "sh", "-c",
                            "echo 1 > /proc/sys/net/ipv4/ip_forward"], check=True)
            for site in (*self.SITES, "t"):
                ip("route", "add", "default", "via", WAN_ADDRESS[site], namespace=self.name(site))
        except BaseException:
            self.close()
            raise
