// Waiting with a bound: longer than anything takes on a machine that is busy with other things too.

import { setTimeout as pause } from "node:timers/promises";

export const PATIENCE = 20_000;

// The promise's value; an error that says `what` if that takes too long.
export function within(what, promise, patience = PATIENCE) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not within ${patience} ms: ${what}`)), patience);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

// Polls until `holds` is truthy, and returns that: for what tells nobody when it is so.
export async function eventually(what, holds, patience = PATIENCE) {
  const deadline = Date.now() + patience;
  for (;;) {
    const held = await holds();
    if (held) return held;
    if (Date.now() > deadline) throw new Error(`not within ${patience} ms: ${what}`);
    await pause(5);
  }
}
