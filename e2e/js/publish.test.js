// What is published, by whom, and how it comes out at the other end.

import assert from "node:assert/strict";
import { setImmediate } from "node:timers/promises";

import { connected, subscribed } from "./harness/client.js";
import { channelOf, everywhere } from "./harness/flock.js";
import { wired } from "./harness/wire.js";

const bytes = (text) => new TextEncoder().encode(text);
const text = (data) => Buffer.from(data).toString();
const bird = (place) => ({ name: "dunlin", place, note: "a flock of thousands turns as one ".repeat(8) });

everywhere((flock, check) => {
  check("what one writes everybody reads, in one order", async (t) => {
    const channel = channelOf("open");
    const ears = [];
    for (const node of [flock.here, flock.there]) {
      for (let member = 0; member < 3; member += 1) {
        ears.push(await subscribed(await connected(t, node), channel));
      }
    }
    const numbers = [...Array(30).keys()];
    await Promise.all(numbers.map((number) => ears[number % ears.length].publish(number)));
    const [first, ...others] = await Promise.all(ears.map((ear) => ear.publications.data(30)));
    assert.deepEqual([...first].sort((a, b) => a - b), numbers);
    for (const other of others) assert.deepEqual(other, first);
  });

  check("any JSON passes as it is", async (t) => {
    const channel = channelOf("open");
    const listener = await subscribed(await connected(t, flock.here), channel);
    const speaker = await subscribed(await connected(t, flock.there), channel);
    const values = [0, -1.5, "", "ü\u2028\"\\\n", true, [], {}, [{ deep: [[{}]] }], { a: null }];
    for (const value of values) await speaker.publish(value);
    assert.deepEqual(await listener.publications.data(values.length), values);
  });

  check("line breaks inside a backend's JSON break no frame", async (t) => {
    const channel = channelOf("open");
    const listener = await subscribed(await connected(t, flock.here), channel);
    const answer = await fetch(`http://${flock.there.address}/api/publish`, {
      method: "POST",
      headers: { "X-API-Key": "api_key" },
      body: `{\n "channel": "${channel}",\n "data": {\n  "text":\n "a\\nb"\n }\n}`,
    });
    assert.equal(answer.status, 200);
    assert.deepEqual(await listener.publications.data(), [{ text: "a\nb" }]);
  });

  check("a publication says who wrote it", async (t) => {
    const channel = channelOf("users");
    const listener = await subscribed(await connected(t, flock.here, { user: "43" }), channel);
    const client = await connected(t, flock.there, { user: "42", claims: { info: { name: "Ann" } } });
    const speaker = await subscribed(client, channel);
    await speaker.publish("hello");
    await flock.there.api("publish", { channel, data: "from the backend", tags: { a: "b" } });
    const [told, untold] = [await listener.publications.next(), await listener.publications.next()];
    assert.equal(told.info.user, "42");
    assert.match(told.info.client, /^[0-9a-f-]{36}$/);
    assert.deepEqual(told.info.connInfo, { name: "Ann" });
    assert.equal(told.offset + 1, untold.offset);
    assert.deepEqual([untold.info, untold.tags], [undefined, { a: "b" }]);
  });

  check("what is old or was said before is not said again", async (t) => {
    const channel = channelOf("open");
    const listener = await subscribed(await connected(t, flock.here), channel);
    const publish = (node, data, options) => node.api("publish", { channel, data, ...options });
    const first = await publish(flock.there, "version 2", { version: 2, version_epoch: "a" });
    const old = await publish(flock.here, "version 1", { version: 1, version_epoch: "a" });
    assert.equal(old.offset, first.offset);
    await publish(flock.here, "another epoch", { version: 1, version_epoch: "b" });
    const once = await publish(flock.there, "once", { idempotency_key: "key" });
    assert.deepEqual(await publish(flock.here, "once", { idempotency_key: "key" }), once);
    await publish(flock.there, "not kept", { skip_history: true });
    await publish(flock.there, "last");
    assert.deepEqual(await listener.publications.data(5), ["version 2", "another epoch", "once", "not kept", "last"]);
    const { publications } = await listener.history({ limit: -1 });
    assert.deepEqual(publications.map((one) => one.data), ["version 2", "another epoch", "once", "last"]);
  });

  check("who may not publish is told so", async (t) => {
    const anonymous = await connected(t, flock.here);
    const user = await connected(t, flock.here, { user: "42" });
    const channel = channelOf("users");
    await assert.rejects(user.publish(channel, 1), { code: 103 }, "not subscribed");
    await (await subscribed(user, channel)).publish(1);
    await assert.rejects(anonymous.publish(channelOf("bare"), 1), { code: 103 });
    await user.publish(channelOf("bare"), 1);
    await assert.rejects(user.publish(channelOf("undefined"), 1), { code: 102 });
    const wire = await wired(t, flock.here);
    const { error } = await wire.ask({ id: 2, publish: { channel: "", data: 1 } });
    assert.equal(error.code, 107);
  });

  check("both codecs meet, and what is no JSON is for Protobuf alone", async (t) => {
    const channel = channelOf("open");
    const inJson = await subscribed(await connected(t, flock.here), channel);
    const inProtobuf = await subscribed(await connected(t, flock.there, { protobuf: true }), channel);
    await inJson.publish({ text: "from JSON" });
    await inProtobuf.publish(bytes('{"text":"from Protobuf"}'));
    await inProtobuf.publish(new Uint8Array([0, 255, 1, 254]));
    await inJson.publish("last");
    assert.deepEqual(await inJson.publications.data(3), [
      { text: "from JSON" }, { text: "from Protobuf" }, "last",
    ]);
    const [first, second, third, fourth] = await inProtobuf.publications.data(4);
    assert.equal(text(first), '{"text":"from JSON"}');
    assert.equal(text(second), '{"text":"from Protobuf"}');
    assert.deepEqual([...third], [0, 255, 1, 254]);
    assert.equal(text(fourth), '"last"');
    assert.equal(inJson.state, "subscribed");
    const kept = async (subscription) => (await subscription.history({ limit: -1 })).publications.length;
    assert.deepEqual([await kept(inJson), await kept(inProtobuf)], [3, 4]);
  });

  check("commands that go out in one frame are answered in one", async (t) => {
    const client = await connected(t, flock.here);
    const before = client.cable.frames.length;
    client.startBatching();
    const answers = [...Array(5)].map((_, number) => client.rpc(`${number}`, {}));
    await setImmediate(); // by then the SDK has made the commands
    client.stopBatching();
    await Promise.allSettled(answers);
    const [frame, ...others] = client.cable.frames.slice(before);
    assert.equal(frame.trim().split("\n").length, 5);
    assert.deepEqual(others, []);
  });

  check("channels are called by numbers by those who ask for it", async (t) => {
    const channel = channelOf("open");
    const client = await connected(t, flock.here);
    const subscription = await subscribed(client, channel, { joinLeave: true });
    const pushes = () => client.cable.frames.flatMap((frame) => frame.split("\n"))
      .filter(Boolean).map((line) => JSON.parse(line).push).filter((push) => push?.pub);
    await subscription.publish("by number");
    assert.deepEqual(await subscription.publications.data(), ["by number"]);
    assert.equal(pushes()[0].channel, undefined);
    assert.ok(pushes()[0].id > 0);

    const wire = await wired(t, flock.there);
    await wire.ask({ id: 2, subscribe: { channel } });
    await subscription.publish("by name");
    const [{ push }] = await wire.frame();
    assert.deepEqual([push.channel, push.id], [channel, undefined]);
  });

  for (const protobuf of [false, true]) {
    const encode = (value) => (protobuf ? bytes(JSON.stringify(value)) : value);
    const decode = (data) => (protobuf ? JSON.parse(text(data)) : data);

    check(`deltas bring the whole, over ${protobuf ? "Protobuf" : "JSON"}`, async (t) => {
      const channel = channelOf("delta");
      const client = await connected(t, flock.here, { protobuf });
      const listener = await subscribed(client, channel, { delta: "fossil" });
      const whole = await subscribed(await connected(t, flock.here, { protobuf }), channel);
      const speaker = await subscribed(await connected(t, flock.there, { protobuf }), channel);
      // One by one: what comes at once to somebody new comes whole.
      const say = async (place, publish = (one) => speaker.publish(encode(one))) => {
        await publish(bird(place));
        for (const ear of [listener, whole]) {
          assert.deepEqual((await ear.publications.data()).map(decode), [bird(place)]);
        }
      };
      for (const place of [1, 2, 3, 4]) await say(place);
      await say(5, (data) => flock.there.api("publish", { channel, data, delta: true }));
      const stats = listener.deltaStats();
      assert.deepEqual([stats.numPublications, stats.numFullPayloads, stats.numDeltaPayloads], [5, 1, 4]);
      assert.ok(stats.bytesReceived < stats.bytesDecoded / 2, JSON.stringify(stats));

      // What was missed comes whole, or as deltas to one another; what follows comes as before.
      client.cable.pull();
      for (const place of [6, 7, 8]) await speaker.publish(encode(bird(place)));
      client.cable.plug();
      for (const ear of [listener, whole]) {
        assert.deepEqual((await ear.publications.data(3)).map(decode), [6, 7, 8].map(bird));
      }
      for (const place of [9, 10]) await say(place);
      assert.ok(listener.deltaStats().numDeltaPayloads >= 5, JSON.stringify(listener.deltaStats()));
    });
  }

  check("nothing is compressed for those who may not ask for it", async (t) => {
    const channel = channelOf("open");
    const listener = await subscribed(await connected(t, flock.here), channel, { delta: "fossil" });
    for (const place of [1, 2]) await listener.publish(bird(place));
    assert.deepEqual(await listener.publications.data(2), [1, 2].map(bird));
    assert.equal(listener.deltaStats().numDeltaPayloads, 0);
    const wire = await wired(t, flock.here);
    wire.send({ id: 2, subscribe: { channel, delta: "unheard-of" } });
    assert.equal((await wire.end()).code, 3501);
  });

  check("subscribers pick publications by their tags", async (t) => {
    const channel = channelOf("tagged");
    const leaf = (key, cmp, ...vals) => (vals.length > 1 ? { key, cmp, vals } : { key, cmp, val: vals[0] });
    const filters = [
      [leaf("ticker", "eq", "BTC"), [0, 1]],
      [leaf("ticker", "neq", "BTC"), [2, 3, 4]],
      [leaf("ticker", "in", "BTC", "ETH"), [0, 1, 2]],
      [leaf("ticker", "nin", "BTC", "ETH"), [3, 4]],
      [leaf("price", "ex"), [0, 1, 2, 3]],
      [leaf("price", "nex"), [4]],
      [leaf("ticker", "sw", "B"), [0, 1]],
      [leaf("ticker", "ew", "H"), [2]],
      [leaf("ticker", "ct", "O"), [3]],
      [leaf("price", "gt", "90"), [1, 3]],
      [leaf("price", "gte", "90"), [0, 1, 3]],
      [leaf("price", "lt", "90"), [2]],
      [leaf("price", "lte", "90"), [0, 2]],
      [{ op: "and", nodes: [leaf("ticker", "eq", "BTC"), leaf("price", "gt", "90")] }, [1]],
      [{ op: "or", nodes: [leaf("ticker", "eq", "ETH"), leaf("price", "nex")] }, [2, 4]],
      [{ op: "not", nodes: [leaf("ticker", "eq", "BTC")] }, [2, 3, 4]],
    ];
    const node = (index) => (index % 2 ? flock.here : flock.there);
    const clients = await Promise.all(filters.map((_, index) => connected(t, node(index))));
    const ears = await Promise.all(filters.map(([tagsFilter], index) => subscribed(clients[index], channel, { tagsFilter })));
    const tags = [
      { ticker: "BTC", price: "90" }, { ticker: "BTC", price: "100.5" },
      { ticker: "ETH", price: "9" }, { ticker: "DOGE", price: "1000" }, undefined,
    ];
    for (const [index, one] of tags.entries()) {
      await flock.here.api("publish", { channel, data: index, tags: one });
    }
    for (const [index, [filter, expected]] of filters.entries()) {
      const got = await ears[index].publications.data(expected.length);
      assert.deepEqual(got, expected, JSON.stringify(filter));
    }

    // What was filtered out is no gap, and is filtered out of what is recovered, too.
    clients[0].cable.pull();
    for (const [index, one] of tags.entries()) {
      await flock.here.api("publish", { channel, data: 10 + index, tags: one });
    }
    clients[0].cable.plug();
    assert.deepEqual(await ears[0].publications.data(2), [10, 11]);
    assert.deepEqual(ears[0].publications.rest, []);
  });
});
