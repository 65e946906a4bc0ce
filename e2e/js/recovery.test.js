// Nobody silently misses a message: what was published while a client was away comes when it is
// back, once and in order, or it is told that its position is lost.

import assert from "node:assert/strict";

import { clientOf, connected, quick, subscribed } from "./harness/client.js";
import { Ear, next } from "./harness/ear.js";
import { channelOf, everywhere } from "./harness/flock.js";
import { wired } from "./harness/wire.js";

everywhere((flock, check) => {
  async function publish(channel, ...all) {
    for (const data of all) await flock.there.api("publish", { channel, data });
  }

  // Cuts the client off, does something, lets it back; how the subscription then is.
  async function away(client, subscription, meanwhile, node) {
    const gone = next(subscription, "subscribing");
    client.cable.pull();
    await gone;
    await meanwhile();
    const back = next(subscription, "subscribed");
    client.cable.plug(node);
    return await back;
  }

  function assert_recovered(context, { hasRecoveredPublications = true } = {}) {
    const { wasRecovering, recovered, hasRecoveredPublications: has } = context;
    assert.deepEqual([wasRecovering, recovered, has], [true, true, hasRecoveredPublications]);
  }

  for (const protobuf of [false, true]) {
    const codec = protobuf ? "Protobuf" : "JSON";
    const decode = (all) => (protobuf ? all.map((one) => JSON.parse(Buffer.from(one).toString())) : all);

    check(`what was missed in a cut comes after it, over ${codec}`, async (t) => {
      const channel = channelOf("open");
      const client = await connected(t, flock.here, { protobuf });
      const subscription = await subscribed(client, channel);
      await publish(channel, 1, 2);
      assert.deepEqual(decode(await subscription.publications.data(2)), [1, 2]);
      const context = await away(client, subscription, () => publish(channel, 3, 4, 5));
      assert_recovered(context);
      assert.equal(context.streamPosition.offset, 2);
      await publish(channel, 6);
      assert.deepEqual(decode(await subscription.publications.data(4)), [3, 4, 5, 6]);
      assert.deepEqual(subscription.publications.rest, []);
    });
  }

  check("whoever missed nothing is told that", async (t) => {
    const channel = channelOf("open");
    const client = await connected(t, flock.here);
    const subscription = await subscribed(client, channel);
    assert_recovered(await away(client, subscription, () => {}), { hasRecoveredPublications: false });
    await publish(channel, 1);
    assert.deepEqual(await subscription.publications.data(), [1]);
    assert_recovered(await away(client, subscription, () => {}), { hasRecoveredPublications: false });
    assert.deepEqual(subscription.publications.rest, []);
  });

  check("a client comes back to another node", async (t) => {
    const channel = channelOf("open");
    const client = await connected(t, flock.here);
    const subscription = await subscribed(client, channel);
    await publish(channel, 1);
    const missed = () => publish(channel, 2, 3);
    assert_recovered(await away(client, subscription, missed, flock.there));
    assert_recovered(await away(client, subscription, () => publish(channel, 4), flock.here));
    assert.deepEqual(await subscription.publications.data(4), [1, 2, 3, 4]);
    assert.deepEqual(subscription.publications.rest, []);
  });

  check("a client that is cut off again and again misses nothing", async (t) => {
    const channel = channelOf("open");
    const client = await connected(t, flock.here);
    const subscription = await subscribed(client, channel);
    let isDone = false;
    const numbers = [...Array(80).keys()];
    const publishing = publish(channel, ...numbers).finally(() => { isDone = true; });
    const nodes = [flock.there, flock.here];
    while (!isDone) {
      assert.equal((await away(client, subscription, () => {}, nodes[0])).recovered, true);
      nodes.reverse();
    }
    await publishing;
    assert.deepEqual(await subscription.publications.data(80), numbers);
    assert.deepEqual(subscription.publications.rest, []);
  });

  check("a subscription that pauses takes up where it was", async (t) => {
    const channel = channelOf("open");
    const subscription = await subscribed(await connected(t, flock.here), channel);
    await publish(channel, 1);
    assert.deepEqual(await subscription.publications.data(), [1]);
    subscription.unsubscribe();
    await publish(channel, 2);
    subscription.subscribe();
    assert_recovered(await next(subscription, "subscribed"));
    assert.deepEqual(await subscription.publications.data(), [2]);
  });

  check("a subscription may begin at a known position", async (t) => {
    const channel = channelOf("open");
    const client = await connected(t, flock.here);
    await publish(channel, 1, 2, 3);
    const first = await flock.here.api("history", { channel, limit: 1 });
    const since = { offset: 1, epoch: first.epoch };
    const subscription = await subscribed(client, channel, { since });
    assert.deepEqual(await subscription.publications.data(2), [2, 3]);
  });

  check("whoever asks may recover where that is allowed", async (t) => {
    const channel = channelOf("asked");
    const client = await connected(t, flock.here);
    const subscription = await subscribed(client, channel, { recoverable: true });
    assert_recovered(await away(client, subscription, () => publish(channel, 1)));
    assert.deepEqual(await subscription.publications.data(), [1]);
  });

  check("where nothing is kept nothing is promised", async (t) => {
    const channel = channelOf("bare");
    const client = await connected(t, flock.here);
    const subscription = await subscribed(client, channel);
    const context = await away(client, subscription, () => publish(channel, 1));
    assert.deepEqual([context.recoverable, context.recovered], [false, false]);
    await publish(channel, 2);
    assert.deepEqual(await subscription.publications.data(), [2]);
  });

  check("a position beyond the history is lost, and the client is told", async (t) => {
    const channel = channelOf("short");
    const client = await connected(t, flock.here);
    const subscription = await subscribed(client, channel);
    await publish(channel, 1);
    assert.deepEqual(await subscription.publications.data(), [1]);
    assert_recovered(await away(client, subscription, () => publish(channel, 2, 3)));
    assert.deepEqual(await subscription.publications.data(2), [2, 3]);
    const context = await away(client, subscription, () => publish(channel, 4, 5, 6));
    assert.deepEqual([context.wasRecovering, context.recovered], [true, false]);
    assert.equal(context.streamPosition.offset, 6);
    await publish(channel, 7);
    assert.deepEqual(await subscription.publications.data(), [7]);
    assert.deepEqual(subscription.publications.rest, []);
  });

  check("an application that loads its state is asked to when its position is lost", async (t) => {
    const channel = channelOf("short");
    await publish(channel, 1);
    const client = await connected(t, flock.here);
    const loads = [];
    const getState = async () => {
      const { offset, epoch } = await flock.here.api("history", { channel });
      loads.push(offset);
      return { offset, epoch };
    };
    const subscription = await subscribed(client, channel, { getState });
    assert.deepEqual(loads, [1]);
    assert_recovered(await away(client, subscription, () => publish(channel, 2)));
    assert.deepEqual(loads, [1]);
    assert.deepEqual(await subscription.publications.data(), [2]);
    await away(client, subscription, () => publish(channel, 3, 4, 5));
    assert.deepEqual(loads, [1, 5]);
    await publish(channel, 6);
    assert.deepEqual(await subscription.publications.data(), [6]);
  });

  check("who would rather be refused than unrecovered is refused", async (t) => {
    const channel = channelOf("open");
    await publish(channel, 1);
    const wire = await wired(t, flock.here);
    const recover = { channel, recover: true, epoch: "another", offset: 1 };
    const { error } = await wire.ask({ id: 2, subscribe: { ...recover, flag: 2 } });
    assert.deepEqual([error.code, error.message], [112, "unrecoverable position"]);
    const { subscribe } = await wire.ask({ id: 3, subscribe: recover });
    assert.deepEqual([subscribe.was_recovering, subscribe.recovered], [true, undefined]);
  });

  check("of some channels only the latest publication counts", async (t) => {
    const channel = channelOf("latest");
    const client = await connected(t, flock.here);
    const subscription = await subscribed(client, channel);
    await publish(channel, 1);
    assert.deepEqual(await subscription.publications.data(), [1]);
    const context = await away(client, subscription, () => publish(channel, 2, 3, 4));
    assert.deepEqual([context.wasRecovering, context.recovered], [true, true]);
    assert.deepEqual(await subscription.publications.data(), [4]);
    assert.equal((await away(client, subscription, () => {})).recovered, true);
    await publish(channel, 5);
    assert.deepEqual(await subscription.publications.data(), [5]);
    assert.deepEqual(subscription.publications.rest, []);
  });

  check("history that was removed is no history without gaps", async (t) => {
    const channel = channelOf("open");
    await publish(channel, 1, 2, 3);
    const { epoch } = await flock.here.api("history", { channel });
    await flock.there.api("history_remove", { channel });
    await publish(channel, 4);
    const client = await connected(t, flock.here);
    for (const [offset, recovered, missed] of [[1, false, []], [3, true, [4]]]) {
      const subscription = client.newSubscription(channel, quick({ since: { offset, epoch } }));
      const publications = new Ear(subscription, "publication");
      subscription.subscribe();
      const context = await next(subscription, "subscribed");
      assert.deepEqual([context.wasRecovering, context.recovered], [true, recovered], `since ${offset}`);
      assert.deepEqual(await publications.data(missed.length), missed);
      subscription.unsubscribe();
      client.removeSubscription(subscription);
    }
  });

  check("a Redis that forgets all is told to everybody it concerns", async (t) => {
    if (!flock.redis) return;
    const channel = channelOf("open");
    const client = clientOf(t, flock.here);
    client.connect();
    const subscription = client.newSubscription(channel, quick());
    const events = new Ear(subscription, "subscribed", "subscribing", "publication");
    subscription.subscribe();
    assert.equal((await events.next()).event, "subscribing");
    const { streamPosition: before } = await events.next();
    await publish(channel, 1);
    assert.equal((await events.next()).data, 1);
    await flock.redis.command("FLUSHALL");
    await publish(channel, 2);
    assert.equal((await events.next()).event, "subscribing");
    const context = await events.next();
    assert.deepEqual([context.event, context.wasRecovering, context.recovered], ["subscribed", true, false]);
    assert.notEqual(context.streamPosition.epoch, before.epoch);
    await publish(channel, 3);
    assert.equal((await events.next()).data, 3);
  });
});
