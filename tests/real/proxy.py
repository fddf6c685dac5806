"""A TCP proxy on loopback that can keep answers back: what was sent has arrived, and the sender does not learn it."""

import socket
import threading

READ_BYTES = 64 << 10


class Proxy:
    def __init__(self, target_port):
        self.target_port = target_port
        self.answering = threading.Event()
        self.answering.set()
        self.losses = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def keep_answers(self):
        self.answering.clear()

    def release_answers(self):
        self.answering.set()

    def lose_answers(self):
        """Ends the connections whose answers are kept back; new ones are answered."""
        self.losses += 1
        self.answering.set()

    def _accept(self):
        while True:
            client, _ = self.listener.accept()
            try:
                server = socket.create_connection(("127.0.0.1", self.target_port))
            except OSError:
                client.close()
                continue
            threading.Thread(target=self._pass_on, args=(client, server, False), daemon=True).start()
            threading.Thread(target=self._pass_on, args=(server, client, True), daemon=True).start()

    def _lost(self):
        """Waits until answers are passed on, and says whether those that were kept meanwhile are not."""
        losses = self.losses
        self.answering.wait()
        return self.losses != losses

    def _pass_on(self, source, target, is_answer):
        try:
            while data := source.recv(READ_BYTES):
                if is_answer and self._lost():
                    break
                target.sendall(data)
        except OSError:
            pass
        for end in (source, target):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
