"""Nodes and a Redis as processes of their own, each in a folder that goes with it."""

import pathlib
import socket
import subprocess
import tempfile
import time

PATIENCE = 30.0
ANY_PORT = ("--listen", "127.0.0.1:0")


class Program:
    """A running program with its folder and log; ended by leaving its `with`."""

    def __init__(self, command):
        self.folder = tempfile.TemporaryDirectory(prefix="dunlin-e2e-")
        self.log = self.path("log")
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [argument.replace("FOLDER", self.folder.name) for argument in command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def path(self, name):
        return pathlib.Path(self.folder.name, name)

    def wait_until(self, holds):
        deadline = time.monotonic() + PATIENCE
        while not (result := holds()):
            if self.process.poll() is not None or time.monotonic() > deadline:
                said = self.log.read_text()
                self.end()
                raise RuntimeError(f"did not start:\n{said}")
            # Polls up to a deadline: a process tells nobody when it is there.
            time.sleep(0.01)
        return result

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    def end(self):
        self.process.kill()
        self.process.wait()
        self.folder.cleanup()


class Redis(Program):
    """A private Redis on a Unix socket, so that no port can be taken."""

    def __init__(self):
        options = "--port 0 --unixsocket FOLDER/redis.sock --dir FOLDER --appendonly no --save"
        super().__init__(["redis-server", *options.split(), ""])
        self.wait_until(self.answers)

    @property
    def url(self):
        return f"redis+unix://{self.path('redis.sock')}"

    def answers(self):
        with socket.socket(socket.AF_UNIX) as asking:
            try:
                asking.connect(str(self.path("redis.sock")))
            except OSError:
                return False
            asking.sendall(b"PING\r\n")
            return asking.recv(100).startswith(b"+PONG")


class Node(Program):
    """A node of a flock: alone with the memory broker, or one of many with a Redis."""

    def __init__(self, program, config, redis=None, listen=ANY_PORT):
        flags = ["--config", str(config), "--log-format", "text", *listen]
        if redis:
            flags += ["--redis", redis.url]
        super().__init__([str(program), "serve", *flags])
        self.url = self.wait_until(self.listens_on)

    def listens_on(self):
        _, found, rest = self.log.read_text().partition("listening on ")
        return found and rest.split()[0]
