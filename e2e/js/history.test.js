// What was published before, in pages and in both directions.

import assert from "node:assert/strict";

import { connected, subscribed } from "./harness/client.js";
import { channelOf, everywhere } from "./harness/flock.js";

const data = ({ publications }) => publications.map((one) => one.data);
const offsets = ({ publications }) => publications.map((one) => one.offset);

everywhere((flock, check) => {
  // Numbers from 0 on, published on one node.
  async function publish(channel, count) {
    for (let number = 0; number < count; number += 1) {
      await flock.there.api("publish", { channel, data: number, tags: { n: `${number}` } });
    }
  }

  for (const protobuf of [false, true]) {
    const decode = (all) => (protobuf ? all.map((one) => Number(Buffer.from(one).toString())) : all);

    check(`pages follow each other, over ${protobuf ? "Protobuf" : "JSON"}`, async (t) => {
      const channel = channelOf("open");
      const subscription = await subscribed(await connected(t, flock.here, { protobuf }), channel);
      await publish(channel, 7);
      const top = await subscription.history({ limit: 0 });
      assert.deepEqual([top.publications, top.offset], [[], 7]);
      assert.ok(top.epoch);
      const all = [];
      let since = { offset: 0, epoch: top.epoch };
      for (;;) {
        const page = await subscription.history({ limit: 3, since });
        assert.deepEqual([page.offset, page.epoch], [7, top.epoch]);
        if (page.publications.length === 0) break;
        all.push(...decode(data(page)));
        since = { offset: page.publications.at(-1).offset, epoch: page.epoch };
      }
      assert.deepEqual(all, [0, 1, 2, 3, 4, 5, 6]);
      assert.deepEqual(decode(data(await subscription.history({ limit: -1 }))), all);
    });
  }

  check("history is read backwards, too", async (t) => {
    const channel = channelOf("open");
    const subscription = await subscribed(await connected(t, flock.here), channel);
    await publish(channel, 7);
    const { epoch } = await subscription.history({ limit: 0 });
    const back = async (options) => offsets(await subscription.history({ reverse: true, ...options }));
    assert.deepEqual(await back({ limit: -1 }), [7, 6, 5, 4, 3, 2, 1]);
    assert.deepEqual(await back({ limit: 2 }), [7, 6]);
    assert.deepEqual(await back({ limit: 3, since: { offset: 5, epoch } }), [4, 3, 2]);
    await assert.rejects(back({ limit: 3, since: { offset: 0, epoch } }), { code: 107 });
  });

  check("history keeps tags and writers", async (t) => {
    const channel = channelOf("users");
    const client = await connected(t, flock.here, { user: "42" });
    const subscription = await subscribed(client, channel);
    await publish(channel, 1);
    await subscription.publish("by a user");
    const reader = await connected(t, flock.there, { user: "43" });
    const { publications } = await reader.history(channel, { limit: -1 });
    assert.deepEqual(publications.map((one) => one.tags), [{ n: "0" }, undefined]);
    assert.deepEqual(publications.map((one) => one.info?.user), [undefined, "42"]);
  });

  check("history has its size", async (t) => {
    const channel = channelOf("users");
    const reader = await connected(t, flock.here, { user: "42" });
    await publish(channel, 14);
    const { publications, offset } = await reader.history(channel, { limit: -1 });
    assert.deepEqual(publications.map((one) => one.data), [4, 5, 6, 7, 8, 9, 10, 11, 12, 13]);
    assert.equal(offset, 14);
  });

  check("a position of another epoch leads nowhere", async (t) => {
    const channel = channelOf("users");
    const reader = await connected(t, flock.here, { user: "42" });
    await publish(channel, 1);
    const since = { offset: 0, epoch: "another" };
    await assert.rejects(reader.history(channel, { limit: 1, since }), { code: 112 });
  });

  check("who may not read, or where nothing is kept, is told so", async (t) => {
    const anonymous = await connected(t, flock.here);
    const user = await connected(t, flock.here, { user: "42" });
    await assert.rejects(anonymous.history(channelOf("users"), { limit: 1 }), { code: 103 });
    await assert.rejects(anonymous.history(channelOf("open"), { limit: 1 }), { code: 103 }, "not subscribed");
    await assert.rejects(user.history(channelOf("bare"), { limit: 1 }), { code: 108 });
    await assert.rejects(user.history(channelOf("undefined"), { limit: 1 }), { code: 102 });
  });
});
