"""A replicator's control socket: one JSON object a line each way (replicator/control/control_api.h)."""

import json
import socket


class Refused(RuntimeError):
    """The replicator answered with an error."""

    def __init__(self, code, message):
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


def call(path, method, seconds=5, **parameters):
    """One request on a connection of its own. OSError while nobody listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(seconds)
        connection.connect(path)
        connection.sendall(json.dumps({"id": 1, "method": method, "params": parameters}).encode() + b"\n")
        received = b""
        while not received.endswith(b"\n"):
            part = connection.recv(65536)
            if not part:
                raise ConnectionError(f"{path} closed in the middle of an answer")
            received += part
    answer = json.loads(received)
    if "error" in answer:
        raise Refused(answer["error"]["code"], answer["error"]["message"])
    return answer["result"]


def status(path):
    return call(path, "status")
