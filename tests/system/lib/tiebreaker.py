"""The tiebreaker of a test: its configuration, its process, and what it has recorded."""

import os

from . import netns, paths, process

PORT = 7000


class Tiebreaker:
    def __init__(self, topology, wan, folder, credentials):
        self.topology = topology
        self.folder = folder
        os.makedirs(folder)
        self.config = os.path.join(folder, "tiebreaker.toml")
        self._starts = 0
        self._processes = []
        with open(self.config, "w", encoding="utf-8") as file:
            file.write(f"""
listen = "{netns.SITE_ADDRESS['t']}:{PORT}"
[tls]
ca = "{credentials.ca}"
crl = "{credentials.crl}"
certificate = "{os.path.join(credentials.folder, 'tiebreaker.pem')}"
key = "{os.path.join(credentials.folder, 'tiebreaker.key')}"
[store]
path = "records.db"
[admin]
socket = "admin.sock"
""")
        for site in ("a", "b"):
            wan.forward_tcp(site, "t", PORT)
        self.start()

    def start(self):
        """Starts it, anew after a kill: with the same records."""
        self._starts += 1
        log = os.path.join(self.folder, f"tiebreaker-{self._starts}.log")
        self.process = process.Process("tiebreaker", [paths.program("antipode-tiebreaker"), "run", self.config], log,
                                       namespace=self.topology.name("t"))
        self._processes.append(self.process)
        self.process.wait_for_line("serves")

    def kill(self):
        return self.process.kill()

    def admin(self, *arguments):
        """What `antipode-tiebreaker admin` says."""
        return process.run([paths.program("antipode-tiebreaker"), "admin", "--config", self.config, *arguments],
                           namespace=self.topology.name("t")).stdout

    def close(self):
        for started in self._processes:
            started.discard()
