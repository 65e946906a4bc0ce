// The SDK in a real browser, as it is published for pages: one page with a client on each node.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before } from "node:test";

import { Browser } from "./harness/browser.js";
import { channelOf, everywhere } from "./harness/flock.js";
import { token } from "./harness/tokens.js";

let browser;
before(async () => { browser = await Browser.start(); });
after(async () => { await browser?.kill(); });

everywhere((flock, check) => {
  for (const protobuf of [false, true]) {
    check(`a page speaks ${protobuf ? "Protobuf" : "JSON"}`, async (t) => {
      const page = await browser.open(`http://${flock.here.address}/health`);
      t.after(() => page.command("Page.close"));
      const file = `node_modules/centrifuge/dist/centrifuge${protobuf ? ".protobuf" : ""}.js`;
      await page.value(await readFile(new URL(file, import.meta.url), "utf8"));
      const user = `browser-${protobuf}-${process.pid}`;
      await page.call(prepare, {
        protobuf,
        here: flock.here.address,
        there: flock.there.address,
        tokens: [user, `${user}-2`].map((sub) => token({ sub })),
      });
      const personal = `personal:#${user}`;

      const channel = channelOf("open");
      const talk = await page.call(talking, channel);
      assert.deepEqual(talk.heard, [{ text: "hello" }, [1, null, "ü"]]);
      assert.deepEqual(talk.joined, [user, `${user}-2`]);
      assert.deepEqual(talk.users.sort(), [user, `${user}-2`]);
      assert.deepEqual(talk.stats, { numClients: 2, numUsers: 2 });
      assert.deepEqual(talk.backwards, [[1, null, "ü"], { text: "hello" }]);

      const cut = await page.call(cutting, channel);
      assert.deepEqual([cut.wasRecovering, cut.recovered], [true, true]);
      assert.deepEqual(cut.missed, [3, 4, 5]);

      assert.deepEqual(await page.call(refusals, channelOf("closed")), [108, 102, 103]);
      const deltas = await page.call(compressing, channelOf("delta"));
      assert.deepEqual([deltas.same, deltas.stats.numDeltaPayloads], [true, 3]);

      const pushed = page.call(pushes, personal);
      await flock.there.api("publish", { channel: personal, data: "for you" });
      assert.equal(await pushed, "for you");
      const ended = page.call(ending);
      await flock.there.api("disconnect", { user });
      assert.deepEqual(await ended, { code: 3503, reason: "force disconnect" });
    });
  }
});

// What follows runs in the page. `page` is all it remembers.

async function prepare({ protobuf, here, there, tokens }) {
  const next = (emitter, name) => new Promise((resolve) => emitter.once(name, resolve));
  const encode = (value) => (protobuf ? new TextEncoder().encode(JSON.stringify(value)) : value);
  const decode = (data) => (protobuf ? JSON.parse(new TextDecoder().decode(data)) : data);
  const page = (globalThis.page = { next, encode, decode, sockets: [], pushed: [] });
  class Remembered extends WebSocket {
    constructor(...address) {
      super(...address);
      page.sockets.push(this);
    }
  }
  const clients = [here, there].map((address, index) => new Centrifuge(
    `ws://${address}/connection/websocket`,
    { token: tokens[index], websocket: Remembered, minReconnectDelay: 1, maxReconnectDelay: 50 },
  ));
  [page.ann, page.bob] = clients;
  page.ann.on("publication", ({ channel, data }) => page.pushed.push([channel, decode(data)]));
  page.disconnected = next(page.ann, "disconnected");
  for (const client of clients) client.connect();
  await Promise.all(clients.map((client) => client.ready()));
}

async function talking(channel) {
  const { ann, bob, next, encode, decode } = page;
  const hears = (page.hears = ann.newSubscription(channel, { joinLeave: true }));
  const joined = [], heard = (page.heard = []);
  const bothJoined = new Promise((resolve) => hears.on("join", ({ info }) => {
    joined.push(info.user);
    if (joined.length === 2) resolve();
  }));
  hears.on("publication", ({ data }) => { heard.push(decode(data)); });
  hears.subscribe();
  await hears.ready();
  const says = (page.says = bob.newSubscription(channel));
  says.subscribe();
  await says.ready();
  await bothJoined;
  const second = next(hears, "publication").then(() => next(hears, "publication"));
  for (const value of [{ text: "hello" }, [1, null, "ü"]]) await says.publish(encode(value));
  await second;
  const { clients } = await hears.presence();
  const { publications } = await hears.history({ limit: 10, reverse: true });
  return {
    heard: [...heard],
    joined,
    users: Object.values(clients).map(({ user }) => user),
    stats: await hears.presenceStats(),
    backwards: publications.map(({ data }) => decode(data)),
  };
}

async function cutting() {
  const { hears, says, heard, next, encode, ann } = page;
  heard.length = 0;
  const gone = next(hears, "subscribing");
  page.sockets[0].close();
  await gone;
  const back = next(hears, "subscribed");
  for (const value of [3, 4, 5]) await says.publish(encode(value));
  const { wasRecovering, recovered } = await back;
  await ann.ready();
  while (heard.length < 3) await new Promise((resolve) => { setTimeout(resolve, 5); });
  return { wasRecovering, recovered, missed: heard };
}

async function refusals(closed) {
  const { ann, next, encode } = page;
  const code = (answer) => answer.then(() => 0, (error) => error.code);
  const refused = ann.newSubscription(closed);
  const unsubscribed = next(refused, "unsubscribed");
  refused.subscribe();
  return [
    await code(ann.rpc("anything", encode({}))),
    await code(ann.publish("undefined:x", encode(1))),
    (await unsubscribed).code,
  ];
}

async function compressing(channel) {
  const { ann, bob, next, encode, decode } = page;
  const hears = ann.newSubscription(channel, { delta: "fossil" });
  const says = bob.newSubscription(channel);
  for (const subscription of [hears, says]) {
    subscription.subscribe();
    await subscription.ready();
  }
  const values = [1, 2, 3, 4].map((place) => ({ place, note: "a flock turns as one ".repeat(10) }));
  const heard = [];
  hears.on("publication", ({ data }) => heard.push(decode(data)));
  for (const value of values) {
    // One by one: what comes at once to somebody new comes whole.
    const came = next(hears, "publication");
    await says.publish(encode(value));
    await came;
  }
  return { same: JSON.stringify(heard) === JSON.stringify(values), stats: hears.deltaStats() };
}

async function pushes(personal) {
  for (;;) {
    const found = page.pushed.find(([channel]) => channel === personal);
    if (found) return found[1];
    await new Promise((resolve) => { setTimeout(resolve, 5); });
  }
}

async function ending() {
  const { code, reason } = await page.disconnected;
  return { code, reason };
}
