"""Runs centrifuge-python's own tests, as they are, against a node: suite.py SOURCE BROKER"""

import argparse
import contextlib
import os
import pathlib
import socket
import sys
import unittest

import report
from processes import Node, Redis

CONFIG = pathlib.Path(__file__).parent.parent / "centrifuge-python.toml"
PORT = 8000


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("source", type=pathlib.Path)
    arguments.add_argument("broker", choices=["memory", "redis"])
    arguments = arguments.parse_args()
    refuse_taken_port()
    with contextlib.ExitStack() as ends:
        redis = ends.enter_context(Redis()) if arguments.broker == "redis" else None
        node = ends.enter_context(Node(os.environ["DUNLIN"], CONFIG, redis, listen=()))
        os.chdir(arguments.source)
        tests = unittest.defaultTestLoader.discover("tests", top_level_dir=".")
        # Some of them disconnect before their client has read that it is subscribed, and then wait
        # for what it has not: on a busy machine they need a second try.
        passed = report.run(tests, tries=2)
        if not passed:
            print(f"--- log of the node\n{node.log.read_text()}")
    return not passed


def refuse_taken_port():
    """The suite speaks to localhost, which may be either of these."""
    for address in ("127.0.0.1", "::1"):
        with contextlib.suppress(OSError):
            socket.create_connection((address, PORT), timeout=1).close()
            sys.exit(
                f"port {PORT} of {address} is taken, and centrifuge-python's tests know no other: "
                f"stop what listens there (ss -ltnp 'sport = :{PORT}'), then try again"
            )


if __name__ == "__main__":
    sys.exit(main())
