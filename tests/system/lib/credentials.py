"""Keys and certificates of a test, made with the product's own commands: an authority, a certificate per site and one for
the tiebreaker, and per pair the keys of the channel and of the heartbeats."""

import os
import shutil

from . import netns, paths, process

SITE_NAME = {"a": "site-a", "b": "site-b", "c": "site-c"}


class Credentials:
    def __init__(self, folder):
        self.folder = folder
        os.makedirs(folder, exist_ok=True)
        self.authority = os.path.join(folder, "authority")
        self._ca("init")
        for name in SITE_NAME.values():
            self._ca("sign", "--site", name, "--pairs", "*", "--out", os.path.join(folder, name))
        # The tiebreaker is dialled at the emulator's addresses.
        hosts = [argument for address in (netns.SITE_ADDRESS["t"], *netns.WAN_ADDRESS.values()) for argument in ("--host", address)]
        self._ca("sign", "--tiebreaker", "tiebreaker", *hosts, "--out", os.path.join(folder, "tiebreaker"))

    def _ca(self, command, *arguments):
        process.run([paths.program("antipode-ca"), command, "--directory", self.authority, *arguments])

    @property
    def ca(self):
        return os.path.join(self.authority, "ca.pem")

    @property
    def crl(self):
        return os.path.join(self.authority, "ca.crl")

    def pair_keys(self, pair):
        """The folders of the pair's keys, one a site, made once."""
        folders = {letter: os.path.join(self.folder, f"{pair}-{name}") for letter, name in SITE_NAME.items()}
        if not os.path.isdir(folders["a"]):
            for folder in folders.values():
                os.makedirs(folder)
                process.run([paths.program("antipode-replicator"), "keygen", folder])
            for letter in ("b", "c"):
                shutil.copy(os.path.join(folders["a"], "heartbeat.key"), os.path.join(folders[letter], "heartbeat.key"))
                shutil.copy(os.path.join(folders["a"], "channel.pub"), os.path.join(folders[letter], "peer.pub"))
            shutil.copy(os.path.join(folders["b"], "channel.pub"), os.path.join(folders["a"], "peer.pub"))
        return folders

    def install(self, letter, pair, folder):
        """Puts all that a site's pair.toml names beside it."""
        keys = self.pair_keys(pair)[letter]
        for name in ("channel.key", "peer.pub", "heartbeat.key"):
            shutil.copy(os.path.join(keys, name), os.path.join(folder, name))
        shutil.copy(self.ca, os.path.join(folder, "ca.pem"))
        for ending in ("pem", "key"):
            shutil.copy(os.path.join(self.folder, f"{SITE_NAME[letter]}.{ending}"), os.path.join(folder, f"site.{ending}"))
