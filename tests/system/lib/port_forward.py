"""A port of this namespace that leads to one in another: so that a browser reaches a site's web page in the demo."""

import socket
import threading

from . import netns


def _copy(source, target):
    try:
        while True:
            data = source.recv(65536)
            if not data:
                break
            target.sendall(data)
    except OSError:
        pass
    finally:
        for end in (source, target):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


class PortForward:
    def __init__(self, namespace, address, port=0):
        """Listens on 127.0.0.1:port (0: any free one) and connects to address = (host, port) in the namespace."""
        self._namespace = namespace
        self._address = address
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        # This thread alone goes into the namespace; the listening socket stays where it was made.
        netns.enter(self._namespace)
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._address, timeout=5)
                server.settimeout(None)
            except OSError:
                client.close()
                continue
            threading.Thread(target=_copy, args=(client, server), daemon=True).start()
            threading.Thread(target=_copy, args=(server, client), daemon=True).start()

    def close(self):
        self._listener.close()
