// A node dies hard: its clients come back on another one and have missed nothing.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { connected, subscribed } from "./harness/client.js";
import { Ear, next } from "./harness/ear.js";
import { channelOf } from "./harness/flock.js";
import { Node, Redis } from "./harness/processes.js";
import { eventually } from "./harness/time.js";
import { token } from "./harness/tokens.js";

const CLIENTS = 20, CHANNELS = 4, PUBLICATIONS = 200;

describe("two nodes, one of which dies", () => {
  let redis, victim, survivor;

  before(async () => {
    redis = await Redis.start();
    [victim, survivor] = [await Node.start(redis), await Node.start(redis)];
  });
  after(async () => {
    for (const program of [victim, survivor, redis]) await program?.kill();
  });

  test("nobody misses anything", { timeout: 60_000 }, async (t) => {
    const channels = [...Array(CHANNELS)].map(() => channelOf("open"));
    const members = [];
    for (let number = 0; number < CLIENTS; number += 1) {
      const client = await connected(t, victim, { protobuf: number % 5 === 0 });
      const channel = channels[number % CHANNELS];
      const subscription = await subscribed(client, channel);
      members.push({ client, subscription, returns: new Ear(subscription, "subscribed") });
    }
    const publish = async (from, to) => {
      for (let data = from; data < to; data += 1) {
        await Promise.all(channels.map((channel) => survivor.api("publish", { channel, data })));
      }
    };
    await publish(0, PUBLICATIONS / 4);
    const publishing = publish(PUBLICATIONS / 4, PUBLICATIONS);
    for (const { client } of members) client.cable.node = survivor;
    await victim.kill();
    await publishing;
    const all = [...Array(PUBLICATIONS).keys()];
    for (const { subscription, returns } of members) {
      const data = await subscription.publications.data(PUBLICATIONS);
      assert.deepEqual(data.map((one) => (typeof one === "number" ? one : Number(Buffer.from(one)))), all);
      assert.deepEqual(subscription.publications.rest, []);
      const { wasRecovering, recovered } = await returns.next();
      assert.deepEqual([wasRecovering, recovered], [true, true]);
    }
  });

  test("its members vanish, those of the other stay", { timeout: 60_000 }, async (t) => {
    const doomed = await Node.start(redis);
    t.after(() => doomed.kill());
    const channel = channelOf("users");
    const claims = (user) => ({ token: token({ sub: user }) });
    const watcher = await connected(t, survivor, claims("ann"));
    await subscribed(watcher, channel);
    const lost = await connected(t, doomed, claims("bob"));
    await subscribed(lost, channel);
    assert.equal((await watcher.presenceStats(channel)).numClients, 2);
    const gone = next(lost, "connecting");
    await doomed.kill();
    await gone;
    lost.disconnect();
    // The lease of a node ends after at most 30 seconds.
    await eventually("only those who live are members", async () => {
      const { clients } = await watcher.presence(channel);
      const users = Object.values(clients).map(({ user }) => user);
      assert.ok(users.includes("ann"), "a member of a living node never flickers");
      return users.length === 1;
    }, 40_000);
  });
});
