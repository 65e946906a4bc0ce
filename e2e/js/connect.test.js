// Who is let in, for how long, and how a connection that may not go on ends.

import assert from "node:assert/strict";
import { test } from "node:test";

import { clientOf, connected } from "./harness/client.js";
import { Ear, next } from "./harness/ear.js";
import { Node, everywhere } from "./harness/flock.js";
import { eventually } from "./harness/time.js";
import { inSeconds, token } from "./harness/tokens.js";
import { Wire, wired } from "./harness/wire.js";

const UUID = /^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$/;

everywhere((flock, check) => {
  for (const protobuf of [false, true]) {
    const codec = protobuf ? "Protobuf" : "JSON";

    check(`anybody is let in as anonymous, over ${codec}`, async (t) => {
      const client = clientOf(t, flock.here, { protobuf, name: "e2e", version: "1", headers: { a: "b" } });
      client.connect();
      const context = await next(client, "connected");
      assert.match(context.client, UUID);
      assert.equal(client.cable.socket.protocol, protobuf ? "centrifuge-protobuf" : "");
    });

    check(`a bad token is refused for good, over ${codec}`, async (t) => {
      const client = clientOf(t, flock.here, { protobuf, token: token({ sub: "42" }, "another") });
      client.connect();
      const { code, reason } = await next(client, "disconnected");
      assert.deepEqual({ code, reason }, { code: 3500, reason: "invalid token" });
    });

    check(`a token that has expired is replaced, over ${codec}`, async (t) => {
      let asked = 0;
      const getToken = async () => { asked += 1; return token({ sub: "42" }); };
      const old = { sub: "42", exp: inSeconds(-10) };
      const client = await connected(t, flock.here, { protobuf, claims: old, getToken });
      assert.equal(asked, 1);
      assert.equal(client.state, "connected");
    });
  }

  check("a client stays as long as it brings new tokens", async (t) => {
    const asked = new Ear({ on: (_name, hear) => { getToken.hear = hear; } }, "asked");
    async function getToken() {
      getToken.hear({});
      return token({ sub: "42", exp: inSeconds(3) });
    }
    const client = clientOf(t, flock.here, { getToken });
    const connections = new Ear(client, "connected", "disconnected", "connecting");
    client.connect();
    for (let refreshes = 0; refreshes < 3; refreshes += 1) await asked.next();
    assert.deepEqual(
      [await connections.next(), await connections.next()].map(({ event }) => event),
      ["connecting", "connected"],
    );
    assert.deepEqual(connections.rest, []);
  });

  check("a client that brings no new token is ended when its own expires", async (t) => {
    const wire = await Wire.open(t, flock.here);
    const { connect } = await wire.ask({ id: 1, connect: { token: token({ sub: "42", exp: inSeconds(3) }) } });
    assert.equal(connect.expires, true);
    assert.ok(connect.ttl >= 1 && connect.ttl <= 3, `ttl ${connect.ttl}`);
    assert.deepEqual(await wire.end(), { code: 3005, reason: "connection expired" });
  });

  check("expire_at outranks exp, and 0 means never", async (t) => {
    const claims = { sub: "42", exp: inSeconds(60), expire_at: 0 };
    const wire = await Wire.open(t, flock.here);
    const { connect } = await wire.ask({ id: 1, connect: { token: token(claims) } });
    assert.equal(connect.expires, undefined);
  });

  check("a refresh is for the same user, and takes a token", async (t) => {
    const claims = (sub) => ({ sub, exp: inSeconds(60) });
    const first = { token: token(claims("42")) };
    const refreshed = await wired(t, flock.here, first);
    const { refresh } = await refreshed.ask({ id: 2, refresh: { token: token(claims("42")) } });
    assert.equal(refresh.expires, true);
    assert.ok(refresh.ttl >= 40 && refresh.ttl <= 60, `ttl ${refresh.ttl}`);
    for (const [bad, code] of [
      [token(claims("43")), 3500],
      [token(claims("42"), "another"), 3500],
      [token({ sub: "42", exp: inSeconds(-10) }), 3005],
      ["", 3501],
    ]) {
      const wire = await wired(t, flock.here, first);
      wire.send({ id: 2, refresh: { token: bad } });
      assert.equal((await wire.end()).code, code, `for ${bad || "no token"}`);
    }
  });

  check("the answer to connect tells who serves", async (t) => {
    const wire = await Wire.open(t, flock.here);
    const { id, connect } = await wire.ask({ id: 7, connect: {} });
    assert.equal(id, 7);
    assert.match(connect.client, UUID);
    assert.match(connect.version, /^\S+/);
    assert.equal(connect.ping, 25);
    assert.equal(connect.pong, true);
  });

  check("a frame of commands is answered, connect first", async (t) => {
    const wire = await Wire.open(t, flock.here);
    const subscribe = (id, name) => ({ id, subscribe: { channel: `bare:${name}` } });
    wire.send({ id: 1, connect: {} }, subscribe(2, "x"), subscribe(3, "y"));
    const replies = await wire.frame();
    while (replies.length < 3) replies.push(...(await wire.frame()));
    const ids = replies.map(({ id }) => id);
    assert.deepEqual([ids[0], ...ids.slice(1).sort()], [1, 2, 3]);
    assert.ok(replies.every(({ error }) => !error), JSON.stringify(replies));
    wire.send({ id: 4, unsubscribe: { channel: "bare:x" } }, { id: 5, unsubscribe: { channel: "bare:y" } });
    assert.deepEqual((await wire.frame()).map(({ id }) => id), [4, 5]);
  });

  check("what breaks the protocol ends the connection", async (t) => {
    for (const [what, frame] of [
      ["another command first", '{"id":1,"subscribe":{"channel":"open:x"}}'],
      ["no JSON", "hello"],
      ["no object", "[]"],
      ["an empty frame", ""],
      ["a command without an id", '{"connect":{}}'],
    ]) {
      const wire = await Wire.open(t, flock.here);
      wire.socket.send(frame);
      assert.deepEqual(await wire.end(), { code: 3501, reason: "bad request" }, what);
    }
    for (const [what, command] of [
      ["a second connect", { id: 2, connect: {} }],
      ["a ping as a command", { id: 2, ping: {} }],
      ["an empty channel", { id: 2, subscribe: { channel: "" } }],
      ["a pong without a ping", {}],
    ]) {
      const wire = await wired(t, flock.here);
      wire.send(command);
      assert.equal((await wire.end()).code, 3501, what);
    }
  });

  check("what is not offered is said so", async (t) => {
    const client = await connected(t, flock.here);
    await assert.rejects(client.rpc("anything", {}), { code: 108 });
    const wire = await wired(t, flock.here);
    wire.send({ send: { data: {} } });
    assert.deepEqual(await wire.end(), { code: 3508, reason: "not available" });
  });
});

test("pings are answered by the SDK, and who does not answer is ended", { timeout: 60_000 }, async (t) => {
  const node = await Node.start(null, ["client.ping_interval=2s", "client.pong_timeout=1s"]);
  t.after(() => node.kill());
  const client = await connected(t, node);
  const connections = new Ear(client, "connecting", "disconnected");
  const mute = await wired(t, node);
  assert.deepEqual(await mute.frame(), [{}]);
  assert.deepEqual(await mute.end(), { code: 3012, reason: "no pong" });
  const pings = () => client.cable.frames.filter((frame) => frame === "{}").length;
  await eventually("two pings", () => pings() >= 2);
  assert.deepEqual(connections.rest, []);
});

test("pings can be those of WebSocket", { timeout: 60_000 }, async (t) => {
  const settings = ["client.ping_interval=2s", "client.pong_timeout=1s", "ws.ping_interval=2s", "ws.pong_timeout=1s"];
  const node = await Node.start(null, settings);
  t.after(() => node.kill());
  const client = clientOf(t, node, { query: "?cf_ws_frame_ping_pong=true" });
  client.connect();
  await next(client, "connected");
  let pings = 0;
  client.cable.socket.on("ping", () => { pings += 1; });
  const connections = new Ear(client, "connecting", "disconnected");
  await eventually("two pings", () => pings >= 2);
  assert.deepEqual(connections.rest, []);
  const reply = JSON.parse(client.cable.frames[0]);
  assert.deepEqual([reply.connect.ping, reply.connect.pong], [undefined, undefined]);
});

test("whoever connects must say so, and not too often", { timeout: 60_000 }, async (t) => {
  const node = await Node.start(null, ["client.stale_close_delay=1s", "client.user_connection_limit=2"]);
  t.after(() => node.kill());
  const stale = await Wire.open(t, node);
  assert.deepEqual(await stale.end(), { code: 3502, reason: "stale" });
  for (let connection = 0; connection < 2; connection += 1) await connected(t, node, { user: "42" });
  const third = clientOf(t, node, { user: "42" });
  third.connect();
  const { code, reason } = await next(third, "disconnected");
  assert.deepEqual({ code, reason }, { code: 3504, reason: "connection limit" });
  await connected(t, node, { user: "43" });
});
