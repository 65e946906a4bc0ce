// Which channels a client may enter, by which token, and for how long.

import assert from "node:assert/strict";

import { connected, quick, subscribed } from "./harness/client.js";
import { Ear, next } from "./harness/ear.js";
import { channelOf, everywhere } from "./harness/flock.js";
import { inSeconds, token } from "./harness/tokens.js";
import { wired } from "./harness/wire.js";

everywhere((flock, check) => {
  // Subscribes in vain, and returns the code.
  async function refusal(client, channel, options) {
    const subscription = client.newSubscription(channel, quick(options));
    subscription.subscribe();
    return (await next(subscription, "unsubscribed")).code;
  }

  check("the anonymous enter what is open to them", async (t) => {
    const client = await connected(t, flock.here);
    await subscribed(client, channelOf("open"));
    assert.equal(await refusal(client, channelOf("users")), 103);
    assert.equal(await refusal(client, "inside-no-namespace"), 103);
  });

  check("users enter what is open to users", async (t) => {
    const client = await connected(t, flock.here, { user: "42" });
    await subscribed(client, channelOf("users"));
    assert.equal(await refusal(client, channelOf("closed")), 103);
  });

  check("a channel has to exist and be well named", async (t) => {
    const client = await connected(t, flock.here, { user: "42" });
    assert.equal(await refusal(client, channelOf("undefined")), 102);
    assert.equal(await refusal(client, `open:${"x".repeat(300)}`), 107);
    assert.equal(await refusal(client, "named:Not Lower Case#42"), 107);
  });

  check("users named in a channel enter it, others do not", async (t) => {
    for (const [user, code] of [["42", 0], ["43", 0], ["4", 103], [undefined, 103]]) {
      const client = await connected(t, flock.here, { user });
      if (code) assert.equal(await refusal(client, "named:dialog#42,43"), code);
      else await subscribed(client, "named:dialog#42,43");
    }
  });

  for (const protobuf of [false, true]) {
    check(`a token opens the channel it names, over ${protobuf ? "Protobuf" : "JSON"}`, async (t) => {
      const client = await connected(t, flock.here, { user: "42", protobuf });
      for (const channel of [channelOf("closed"), channelOf("$closed")]) {
        assert.equal(await refusal(await connected(t, flock.here, { user: "42" }), channel), 103);
        await subscribed(client, channel, { token: token({ sub: "42", channel }) });
      }
    });
  }

  check("a token opens nothing else, and for nobody else", async (t) => {
    const channel = channelOf("closed");
    for (const [what, bad] of [
      ["no token at all", "nonsense"],
      ["another key", token({ sub: "42", channel }, "another")],
      ["a connection token", token({ sub: "42" })],
    ]) {
      const client = await connected(t, flock.here, { user: "42" });
      assert.equal(await refusal(client, channel, { token: bad }), 103, what);
      assert.equal(client.state, "connected", what);
    }
    for (const [what, claims] of [
      ["another channel", { sub: "42", channel: channelOf("closed") }],
      ["another user", { sub: "43", channel }],
    ]) {
      const client = await connected(t, flock.here, { user: "42" });
      client.newSubscription(channel, quick({ token: token(claims) })).subscribe();
      assert.equal((await next(client, "disconnected")).code, 3500, what);
    }
  });

  check("a token that has expired is replaced", async (t) => {
    const channel = channelOf("closed");
    const client = await connected(t, flock.here, { user: "42" });
    let asked = 0;
    const getToken = async (context) => {
      asked += 1;
      return token({ sub: "42", channel: context.channel });
    };
    const old = token({ sub: "42", channel, exp: inSeconds(-10) });
    await subscribed(client, channel, { token: old, getToken });
    assert.equal(asked, 1);
  });

  check("a subscription stays as long as it brings new tokens", async (t) => {
    const channel = channelOf("closed");
    const client = await connected(t, flock.here, { user: "42" });
    const asked = new Ear({ on: (_name, hear) => { getToken.hear = hear; } }, "asked");
    async function getToken() {
      getToken.hear({});
      return token({ sub: "42", channel, exp: inSeconds(3) });
    }
    const subscription = await subscribed(client, channel, { getToken });
    const events = new Ear(subscription, "subscribing", "unsubscribed", "error");
    for (let refreshes = 0; refreshes < 3; refreshes += 1) await asked.next();
    assert.deepEqual(events.rest, []);
    assert.equal(subscription.state, "subscribed");
  });

  check("a subscription that brings no new token is taken away", async (t) => {
    const channel = channelOf("closed");
    const wire = await wired(t, flock.here, { token: token({ sub: "42" }) });
    const short = token({ sub: "42", channel, exp: inSeconds(3) });
    const { subscribe } = await wire.ask({ id: 2, subscribe: { channel, token: short } });
    assert.equal(subscribe.expires, true);
    assert.ok(subscribe.ttl >= 1 && subscribe.ttl <= 3, `ttl ${subscribe.ttl}`);
    const { push } = await wire.message((message) => message.push?.unsubscribe);
    assert.deepEqual(push, { channel, unsubscribe: { code: 2501, reason: "subscription expired" } });
  });

  check("a refresh of a subscription takes one, and its token", async (t) => {
    const channel = channelOf("closed");
    const connect = { token: token({ sub: "42" }) };
    const claims = { sub: "42", channel, exp: inSeconds(60) };
    const wire = await wired(t, flock.here, connect);
    const refresh = async (id, fresh) => await wire.ask({ id, sub_refresh: { channel, token: fresh } });
    assert.equal((await refresh(2, token(claims))).error.code, 103);
    await wire.ask({ id: 3, subscribe: { channel, token: token(claims) } });
    assert.equal((await refresh(4, "")).error.code, 107);
    const { sub_refresh } = await refresh(5, token({ ...claims, exp: inSeconds(90) }));
    assert.equal(sub_refresh.expires, true);
    assert.ok(sub_refresh.ttl >= 70 && sub_refresh.ttl <= 90, `ttl ${sub_refresh.ttl}`);
    wire.send({ id: 6, sub_refresh: { channel, token: token({ ...claims, sub: "43" }) } });
    assert.equal((await wire.end()).code, 3500);
  });

  check("a channel is entered once, and only so many are", async (t) => {
    const wire = await wired(t, flock.here);
    const code = async (id) => {
      const { error } = await wire.ask({ id, subscribe: { channel: `bare:${id % 100}` } });
      return error?.code;
    };
    for (let id = 2; id < 22; id += 1) assert.equal(await code(id), undefined);
    assert.equal(await code(102), 105);
    assert.equal(await code(30), 106);
  });

  check("whoever leaves hears no more, and may come back", async (t) => {
    const channel = channelOf("open");
    const client = await connected(t, flock.here);
    const subscription = await subscribed(client, channel);
    const speaker = await subscribed(await connected(t, flock.there), channel);
    await speaker.publish(1);
    assert.deepEqual(await subscription.publications.data(), [1]);
    subscription.unsubscribe();
    await speaker.publish(2);
    assert.deepEqual(await speaker.publications.data(2), [1, 2]);
    subscription.subscribe();
    await speaker.publish(3);
    assert.deepEqual(await subscription.publications.data(2), [2, 3]);

    const wire = await wired(t, flock.here);
    assert.deepEqual(await wire.ask({ id: 2, unsubscribe: { channel: "bare:never-entered" } }), { id: 2, unsubscribe: {} });
  });

  check("positions are kept where they are allowed, for those who ask", async (t) => {
    const client = await connected(t, flock.here);
    for (const [namespace, options, positioned, recoverable] of [
      ["asked", {}, false, false],
      ["asked", { positioned: true }, true, false],
      ["asked", { recoverable: true }, true, true],
      ["open", {}, true, true],
      ["bare", { positioned: true, recoverable: true }, false, false],
    ]) {
      const subscription = client.newSubscription(channelOf(namespace), quick(options));
      subscription.subscribe();
      const context = await next(subscription, "subscribed");
      const what = `${namespace} ${JSON.stringify(options)}`;
      assert.equal(context.positioned, positioned, what);
      assert.equal(context.recoverable, recoverable, what);
      assert.equal(context.streamPosition !== undefined, positioned || recoverable, what);
    }
  });

  check("map subscriptions are refused as what is not offered", async (t) => {
    const wire = await wired(t, flock.here);
    for (const type of [1, 2, 3, 4]) {
      const { error } = await wire.ask({ id: 1 + type, subscribe: { channel: channelOf("open"), type } });
      assert.equal(error.code, 103, `type ${type}`);
    }
  });
});
