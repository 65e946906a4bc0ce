// Who is in a channel, who comes and who goes.

import assert from "node:assert/strict";

import { connected, quick, subscribed } from "./harness/client.js";
import { Ear } from "./harness/ear.js";
import { channelOf, everywhere } from "./harness/flock.js";
import { eventually } from "./harness/time.js";
import { token } from "./harness/tokens.js";

everywhere((flock, check) => {
  for (const protobuf of [false, true]) {
    const decode = (info) => (protobuf ? info?.length && JSON.parse(Buffer.from(info)) : info) || undefined;

    check(`members of all nodes are known, over ${protobuf ? "Protobuf" : "JSON"}`, async (t) => {
      const channel = channelOf("users");
      const ann = { user: "ann", claims: { info: { name: "Ann" } }, protobuf };
      const first = await subscribed(await connected(t, flock.here, ann), channel);
      await subscribed(await connected(t, flock.there, ann), channel);
      await subscribed(await connected(t, flock.there, { user: "bob", protobuf }), channel);
      const { clients } = await first.presence();
      const members = Object.entries(clients);
      assert.deepEqual(members.map(([, { user }]) => user).sort(), ["ann", "ann", "bob"]);
      for (const [id, info] of members) {
        assert.equal(info.client, id);
        assert.deepEqual(decode(info.connInfo), info.user === "ann" ? { name: "Ann" } : undefined);
      }
      assert.deepEqual(await first.presenceStats(), { numClients: 3, numUsers: 2 });
    });
  }

  check("a subscription's token says what is told of a member", async (t) => {
    const channel = channelOf("closed");
    const client = await connected(t, flock.here, { user: "42" });
    await subscribed(client, channel, { token: token({ sub: "42", channel, info: { seat: 7 } }) });
    const { presence } = await flock.there.api("presence", { channel });
    assert.deepEqual(Object.values(presence).map((info) => info.chan_info), [{ seat: 7 }]);
  });

  check("whoever leaves or is cut off is a member no more", async (t) => {
    const channel = channelOf("open");
    const watcher = await subscribed(await connected(t, flock.here), channel, { joinLeave: true });
    const leaves = new Ear(watcher, "leave");
    const [leaving, cut] = [await connected(t, flock.there), await connected(t, flock.there)];
    const subscription = await subscribed(leaving, channel);
    await subscribed(cut, channel);
    assert.equal((await watcher.presenceStats()).numClients, 3);
    subscription.unsubscribe();
    await leaves.next();
    cut.cable.pull();
    await leaves.next();
    await eventually("one is left", async () => (await watcher.presenceStats()).numClients === 1);
  });

  check("joins and leaves are told, the own join first", async (t) => {
    const channel = channelOf("open");
    const watching = await connected(t, flock.here, { user: "ann" });
    const watcher = watching.newSubscription(channel, quick({ joinLeave: true }));
    const events = new Ear(watcher, "join", "leave");
    watcher.subscribe();
    assert.deepEqual(await seen(events), ["join", "ann"]);
    const visitor = await connected(t, flock.there, { user: "bob" });
    const visit = await subscribed(visitor, channel);
    assert.deepEqual(await seen(events), ["join", "bob"]);
    visit.unsubscribe();
    assert.deepEqual(await seen(events), ["leave", "bob"]);
    visit.subscribe();
    assert.deepEqual(await seen(events), ["join", "bob"]);
    visitor.disconnect();
    assert.deepEqual(await seen(events), ["leave", "bob"]);
  });

  check("who did not ask is told only where that is forced", async (t) => {
    const [quiet, crowd] = [channelOf("open"), channelOf("crowd")];
    const client = await connected(t, flock.here);
    const events = new Ear(await subscribed(client, quiet), "join", "leave");
    const forced = client.newSubscription(crowd, quick());
    const joins = new Ear(forced, "join");
    forced.subscribe();
    await joins.next(); // its own
    const visitor = await connected(t, flock.there, { user: "bob" });
    await subscribed(visitor, quiet);
    await subscribed(visitor, crowd);
    assert.equal((await joins.next()).info.user, "bob");
    assert.deepEqual(events.rest, []);
  });

  check("who may not ask is told so", async (t) => {
    const anonymous = await connected(t, flock.here);
    const user = await connected(t, flock.here, { user: "42" });
    for (const ask of ["presence", "presenceStats"]) {
      await assert.rejects(anonymous[ask](channelOf("users")), { code: 103 });
      await assert.rejects(anonymous[ask](channelOf("open")), { code: 103 }, "not subscribed");
      await assert.rejects(user[ask](channelOf("bare")), { code: 108 });
      await assert.rejects(user[ask](channelOf("undefined")), { code: 102 });
    }
    assert.deepEqual((await user.presence(channelOf("users"))).clients, {});
    // A zero is not written.
    const { numClients = 0, numUsers = 0 } = await user.presenceStats(channelOf("users"));
    assert.deepEqual([numClients, numUsers], [0, 0]);
  });
});

// Kind and user of the next event.
async function seen(events) {
  const { event, info } = await events.next();
  return [event, info.user];
}
