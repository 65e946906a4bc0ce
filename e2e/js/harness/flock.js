// Every feature is tried twice: on one node alone, and on two nodes with a Redis between them.

import { randomUUID } from "node:crypto";
import { after, before, describe, test } from "node:test";

import { Node, Redis } from "./processes.js";

export { Node };

// Runs `tests` for both. They get `flock`, whose `here` and `there` are two nodes or the same one.
export function everywhere(tests) {
  for (const kind of ["memory", "redis"]) {
    const flock = {};
    describe(kind, () => {
      before(async () => {
        if (kind === "redis") flock.redis = await Redis.start();
        flock.here = await Node.start(flock.redis);
        flock.there = flock.redis ? await Node.start(flock.redis) : flock.here;
      });
      after(async () => {
        const { here, there, redis } = flock;
        for (const program of new Set([here, there, redis])) await program?.kill();
      });
      tests(flock, (name, run) => test(name, { timeout: 60_000 }, run));
    });
  }
}

// A channel that no other test uses.
export function channelOf(namespace) {
  return `${namespace}:${randomUUID()}`;
}
