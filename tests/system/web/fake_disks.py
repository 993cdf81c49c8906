"""A group of replicated disks that is played: a control socket that answers as disksync does, and remembers what was ordered."""

import json
import os
import socket
import sys
import threading

PREVIEW = {"blocks_lost": 3, "bytes_of_blocks": 196608, "lost_since": 1700000000, "exact": True}
STATUS = {
    "group": "db1", "link": "halted", "link_reason": "disk sda: split-brain: both copies were written", "peer": "site-b",
    "peer_address": "", "mode": "async", "sending": False, "backlog_bytes": 0, "changes_in_flight": 0,
    "policies": {"congestion": "block", "peer_lost": "go-on", "split_one_primary": "ask", "verify_repairs": True},
    "disks": [{
        "name": "sda", "store": "/var/lib/antipode/disks/sda.img", "store_health": "ok", "store_reason": "", "store_reconnects": 0,
        "role": "secondary", "state": "UpToDate", "size_bytes": 1 << 30, "epoch": 3, "generation": "0123456789abcdef",
        "marked_blocks": 10, "phase": "idle", "paused": False, "undo_bytes": 0, "verify_differences": 0, "reason": "",
        "kept_undo": [{"file": "/var/lib/antipode/disks/sda.img.antipode.undo.1700000000", "kept_at": 1700000000, "bytes": 139264}],
        "verify_ended_at": 1700000000, "verify_complete": True, "verify_blocks": 16384,
        "peer_state": "UpToDate", "decision": "split-brain", "decision_reason": "both copies were written",
        "if_this_site_wins": PREVIEW, "if_the_peer_wins": {**PREVIEW, "blocks_lost": 7}}],
}
EVENTS = {"events": [{"time": 1700000000, "weight": "info", "disk": "sda", "event": "link", "text": "connected, sending"}]}


class Served:
    def __init__(self, directory, name):
        self.folder = os.path.join(directory, "disks")
        self.path = os.path.join(self.folder, f"{name}.sock")
        self.orders = []

    def __enter__(self):
        os.makedirs(self.folder, exist_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen(8)
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._listener.close()
        os.unlink(self.path)

    def _serve(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                line = connection.makefile().readline().rstrip("\n")
                connection.sendall(json.dumps(self._answer(line)).encode() + b"\n")

    def _answer(self, line):
        if line == "status":
            return STATUS
        if line == "events":
            return EVENTS
        if line in ("demote", "outdate"):
            return {"error": "this site will not", "code": "denied"}
        self.orders.append(line)
        return {"ok": True}


if __name__ == "__main__":
    # fake_disks.py DIRECTORY NAME: until standard input ends, each order on a line as it comes.
    with Served(sys.argv[1], sys.argv[2]) as served:
        class Told(list):
            def append(self, line):
                super().append(line)
                print(line, flush=True)

        served.orders = Told()
        print("ready", flush=True)
        sys.stdin.read()
