// Clients of the plain dialect and of this one meet on the same channels.

import assert from "node:assert/strict";

import { connected, subscribed } from "./harness/client.js";
import { channelOf, everywhere } from "./harness/flock.js";
import { Wire, plain } from "./harness/wire.js";

const text = (data) => Buffer.from(data).toString();

everywhere((flock, check) => {
  check("a plain client's frame is a publication", async (t) => {
    const channel = channelOf("open");
    const inJson = await subscribed(await connected(t, flock.here), channel);
    const inProtobuf = await subscribed(await connected(t, flock.there, { protobuf: true }), channel);
    const bird = await plain(t, flock.there, channel);
    bird.socket.send('{"text":"hello"}');
    bird.socket.send("just words");
    bird.socket.send(Buffer.from([0, 255, 1]));
    bird.socket.send("42");
    assert.deepEqual(await inJson.publications.data(3), [{ text: "hello" }, "just words", 42]);
    const [first, second, third, fourth] = await inProtobuf.publications.data(4);
    assert.equal(text(first), '{"text":"hello"}');
    assert.equal(text(second), "just words");
    assert.deepEqual([...third], [0, 255, 1]);
    assert.equal(text(fourth), "42");
    assert.equal(inJson.state, "subscribed");
  });

  check("a publication is a plain client's frame", async (t) => {
    const channel = channelOf("open");
    const bird = await plain(t, flock.there, channel);
    const inJson = await subscribed(await connected(t, flock.here), channel);
    const inProtobuf = await subscribed(await connected(t, flock.here, { protobuf: true }), channel);
    await inJson.publish({ text: "hello" });
    await inProtobuf.publish(Buffer.from([0, 255, 1]));
    await flock.there.api("publish", { channel, data: [1, 2] });
    const [first, second, third] = [await bird.frames.next(), await bird.frames.next(), await bird.frames.next()];
    assert.deepEqual([text(first.data), first.isBinary], ['{"text":"hello"}', false]);
    assert.deepEqual([[...second.data], second.isBinary], [[0, 255, 1], true]);
    assert.deepEqual([text(third.data), third.isBinary], ["[1,2]", false]);
  });

  check("all read one order", async (t) => {
    const channel = channelOf("open");
    const birds = [await plain(t, flock.here, channel), await plain(t, flock.there, channel)];
    const client = await subscribed(await connected(t, flock.here), channel);
    for (let number = 0; number < 20; number += 1) {
      birds[number % 2].socket.send(JSON.stringify({ bird: number }));
      await client.publish({ client: number });
    }
    const order = await client.publications.data(40);
    for (const bird of birds) {
      const heard = [];
      while (heard.length < 40) heard.push(JSON.parse((await bird.frames.next()).data));
      assert.deepEqual(heard, order);
    }
  });

  check("what a plain client wrote is in the history, and recovered", async (t) => {
    const channel = channelOf("open");
    const client = await connected(t, flock.here);
    const subscription = await subscribed(client, channel);
    const bird = await plain(t, flock.there, channel);
    client.cable.pull();
    bird.socket.send("while you were away");
    await bird.frames.next(); // it has its own back, so it is in the channel
    client.cable.plug();
    assert.deepEqual(await subscription.publications.data(), ["while you were away"]);
    const { publications } = await subscription.history({ limit: -1 });
    assert.deepEqual(publications.map((one) => one.data), ["while you were away"]);
  });

  check("plain clients keep out of what is not open to them", async (t) => {
    await assert.rejects(Wire.open(t, flock.here, `/ws/${channelOf("users")}`), /40[34]/);
    await assert.rejects(Wire.open(t, flock.here, `/ws/${channelOf("undefined")}`), /40[34]/);
  });
});
