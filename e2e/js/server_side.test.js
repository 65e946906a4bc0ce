// Subscriptions that the server makes: by token, for each user, by the HTTP API.

import assert from "node:assert/strict";

import { clientOf } from "./harness/client.js";
import { Ear, next } from "./harness/ear.js";
import { channelOf, everywhere } from "./harness/flock.js";
import { inSeconds } from "./harness/tokens.js";

let users = 0;

everywhere((flock, check) => {
  // A user that no other test has.
  const newUser = () => `user-${process.pid}-${users += 1}`;

  // A client with ears for what it is told about one channel of the server's.
  async function connectedTo(t, channel, node, options) {
    const client = clientOf(t, node, options);
    const events = new Ear({
      on: (name, hear) => client.on(name, (context) => { if (context.channel === channel) hear(context); }),
    }, "subscribed", "subscribing", "unsubscribed", "publication", "join", "leave");
    client.connect();
    await client.ready();
    return { client, events };
  }

  async function publish(channel, ...all) {
    for (const data of all) await flock.there.api("publish", { channel, data });
  }

  const data = async (events, count) => (await Promise.all([...Array(count)].map(() => events.next()))).map((event) => event.data);

  for (const protobuf of [false, true]) {
    check(`every user has a channel, over ${protobuf ? "Protobuf" : "JSON"}`, async (t) => {
      const user = newUser();
      const channel = `personal:#${user}`;
      const { client, events } = await connectedTo(t, channel, flock.here, { user, protobuf });
      assert.equal((await events.next()).event, "subscribed");
      assert.equal((await events.next()).event, "join");
      await client.publish(channel, protobuf ? Buffer.from("1") : 1);
      const { event, info } = await events.next();
      assert.deepEqual([event, info.user], ["publication", user]);
      assert.equal((await client.presenceStats(channel)).numClients, 1);
      assert.equal((await client.history(channel, { limit: -1 })).publications.length, 1);
    });
  }

  check("what the server's subscriptions missed comes after a cut, on any node", async (t) => {
    const user = newUser();
    const channel = `personal:#${user}`;
    const { client, events } = await connectedTo(t, channel, flock.here, { user });
    assert.equal((await events.next()).recoverable, true);
    assert.equal((await events.next()).event, "join");
    await publish(channel, 1);
    assert.deepEqual(await data(events, 1), [1]);
    client.cable.pull();
    assert.equal((await events.next()).event, "subscribing");
    await publish(channel, 2, 3);
    client.cable.plug(flock.there);
    const { event, wasRecovering, recovered } = await events.next();
    assert.deepEqual([event, wasRecovering, recovered], ["subscribed", true, true]);
    assert.deepEqual(await data(events, 2), [2, 3]);
  });

  check("a token names channels", async (t) => {
    const channels = [channelOf("users"), channelOf("closed")];
    const { client } = await connectedTo(t, channels[0], flock.here, { claims: { sub: newUser(), channels } });
    client.disconnect();
    const again = new Ear(client, "subscribed");
    client.connect();
    const seen = [await again.next(), await again.next(), await again.next()].map(({ channel }) => channel);
    for (const channel of channels) assert.ok(seen.includes(channel), `${seen}`);
  });

  check("a token says how its channels are", async (t) => {
    const user = newUser();
    const channel = channelOf("users");
    const override = { force_recovery: { value: true } };
    const subs = { [channel]: { info: { seat: 7 }, data: { welcome: true }, override } };
    const { events } = await connectedTo(t, channel, flock.here, { claims: { sub: user, subs } });
    const context = await events.next();
    assert.deepEqual(context.data, { welcome: true });
    assert.equal(context.recoverable, true);
    const { presence } = await flock.there.api("presence", { channel });
    assert.deepEqual(Object.values(presence).map((info) => [info.user, info.chan_info]), [[user, { seat: 7 }]]);
  });

  check("a token for a channel that does not exist lets nobody in", async (t) => {
    const client = clientOf(t, flock.here, { claims: { sub: newUser(), channels: [channelOf("undefined")] } });
    client.connect();
    assert.equal((await next(client, "disconnected")).code, 102);
  });

  check("a token for more channels than a client may have lets nobody in", async (t) => {
    const channels = [...Array(30)].map(() => channelOf("users"));
    const client = clientOf(t, flock.here, { claims: { sub: newUser(), channels } });
    client.connect();
    const { code, reason } = await next(client, "disconnected");
    assert.deepEqual({ code, reason }, { code: 3505, reason: "channel limit" });
  });

  check("a Redis that forgets all makes the client come back, and tells it", async (t) => {
    if (!flock.redis) return;
    const user = newUser();
    const channel = `personal:#${user}`;
    const { events } = await connectedTo(t, channel, flock.here, { user });
    assert.equal((await events.next()).event, "subscribed");
    assert.equal((await events.next()).event, "join");
    await publish(channel, 1);
    assert.deepEqual(await data(events, 1), [1]);
    await flock.redis.command("FLUSHALL");
    await publish(channel, 2);
    assert.equal((await events.next()).event, "subscribing");
    const { event, wasRecovering, recovered } = await events.next();
    assert.deepEqual([event, wasRecovering, recovered], ["subscribed", true, false]);
  });

  check("the backend subscribes users wherever they are, and ends that", async (t) => {
    const user = newUser();
    const channel = channelOf("users");
    const { client, events } = await connectedTo(t, channel, flock.here, { user });
    const other = await connectedTo(t, channel, flock.there, { user });
    await flock.there.api("subscribe", { user, channel, data: { from: "the backend" } });
    for (const ear of [events, other.events]) {
      const context = await ear.next();
      assert.deepEqual([context.event, context.data], ["subscribed", { from: "the backend" }]);
    }
    await publish(channel, 1);
    assert.deepEqual([...await data(events, 1), ...await data(other.events, 1)], [1, 1]);
    assert.equal((await client.presenceStats(channel)).numClients, 2);
    await flock.there.api("unsubscribe", { user, channel });
    for (const ear of [events, other.events]) assert.equal((await ear.next()).event, "unsubscribed");
    await publish(channel, 2);
    await flock.there.api("subscribe", { user, channel });
    await events.next();
    await publish(channel, 3);
    assert.deepEqual(await data(events, 1), [3]);
  });

  check("a subscription that the backend gave for a time ends then", async (t) => {
    const user = newUser();
    const channel = channelOf("users");
    const { client, events } = await connectedTo(t, channel, flock.here, { user });
    const connecting = next(client, "connecting");
    await flock.there.api("subscribe", { user, channel, expire_at: inSeconds(3) });
    assert.equal((await events.next()).event, "subscribed");
    const { code, reason } = await connecting;
    assert.deepEqual({ code, reason }, { code: 3006, reason: "subscription expired" });
    assert.deepEqual([(await events.next()).event, (await events.next()).event], ["subscribing", "unsubscribed"]);
    assert.equal(client.state, "connected");
  });

  check("the backend picks one client of a user", async (t) => {
    const user = newUser();
    const channel = channelOf("users");
    const one = await connectedTo(t, channel, flock.here, { user });
    const other = await connectedTo(t, channel, flock.there, { user });
    await flock.here.api("subscribe", { user, channel, client: other.client.id });
    assert.equal((await other.events.next()).event, "subscribed");
    assert.equal((await other.client.presenceStats(channel)).numClients, 1);
    await publish(channel, 1);
    assert.deepEqual(await data(other.events, 1), [1]);
    assert.deepEqual(one.events.rest, []);
  });
});
