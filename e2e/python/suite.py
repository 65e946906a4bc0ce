"""Runs centrifuge-python's own tests, as they are, against a node: suite.py SOURCE BROKER"""

import argparse
import contextlib
import faulthandler
import os
import pathlib
import socket
import sys
import unittest

import report
from processes import Node, Redis

CONFIG = pathlib.Path(__file__).parent.parent / "centrifuge-python.toml"
PORT = 8000
STUCK_SECONDS = 150


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("source", type=pathlib.Path)
    arguments.add_argument("broker", choices=["memory", "redis"])
    arguments = arguments.parse_args()
    refuse_taken_port()
    # Some of its tests wait without a limit; whoever runs this has one, and would know where.
    faulthandler.dump_traceback_later(STUCK_SECONDS)
    with contextlib.ExitStack() as ends:
        redis = ends.enter_context(Redis()) if arguments.broker == "redis" else None
        node = ends.enter_context(Node(os.environ["DUNLIN"], CONFIG, redis, listen=()))
        os.chdir(arguments.source)
        tests = unittest.defaultTestLoader.discover("tests", top_level_dir=".")
        passed = report.run(tests)
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
