"""Commands to the line emulator (tests/system/wan_link/wan.h has them all)."""

import json
import subprocess

from . import netns, paths
from .process import Process


class Wan:
    """The emulator in the wan namespace of a topology; it ends when its standard input does."""

    def __init__(self, topology, log, seed=1, log_level="info"):
        self._process = Process(
            "wan_link", [paths.program("wan_link"), "--stdin", "--seed", str(seed)], log,
            namespace=topology.name("wan") if topology else None, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env={"ANTIPODE_LOG": log_level})
        first = self._process.stdout.readline().decode().strip()
        if first != "ready":
            raise AssertionError(f"wan_link did not start: {first} {self._process.output()}")

    @property
    def pid(self):
        return self._process.pid

    def do(self, command):
        """Its answer; an error is an exception."""
        self._process.stdin.write(command.encode() + b"\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline().decode().strip()
        if not answer or answer.startswith("error: "):
            raise AssertionError(f"wan_link: {command}: {answer or 'it has ended: ' + self._process.output()}")
        return answer

    def set(self, who, **fields):
        """set("a<->b", delay_ms=10, rate_mbytes=125)"""
        self.do(f"set {who} " + " ".join(f"{field}={value}" for field, value in fields.items()))

    def cut(self, who, mode="blackhole"):
        self.do(f"cut {who} mode={mode}")

    def heal(self, who):
        self.do(f"heal {who}")

    def break_connections(self):
        self.do("break all")

    def stats(self):
        return json.loads(self.do("stats"))

    def forward_tcp(self, source, target, port):
        """Who connects to the emulator's address at the source's side reaches the target's port."""
        self.do(f"forward tcp {source}->{target} {netns.WAN_ADDRESS[source]}:{port} {netns.SITE_ADDRESS[target]}:{port}")

    def forward_udp(self, one, other, port):
        self.do(f"forward udp {one}<->{other} {netns.WAN_ADDRESS[one]}:{port} {netns.SITE_ADDRESS[one]}:{port}"
                f" {netns.WAN_ADDRESS[other]}:{port} {netns.SITE_ADDRESS[other]}:{port}")

    def close(self):
        self._process.discard()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
