// Events of an SDK, to be awaited.

import { within } from "./time.js";

// Hears the events of an emitter, to be taken one after the other.
export class Ear {
  #waiting = [];
  #unheard = [];

  constructor(emitter, ...names) {
    this.names = names;
    for (const name of names) emitter.on(name, (context) => this.#hear({ event: name, ...context }));
  }

  #hear(event) {
    const next = this.#waiting.shift();
    if (next) next(event);
    else this.#unheard.push(event);
  }

  // The next event, with the name under which it was heard.
  next() {
    const event = this.#unheard.shift();
    if (event) return Promise.resolve(event);
    const heard = new Promise((resolve) => { this.#waiting.push(resolve); });
    return within(`heard ${this.names}`, heard);
  }

  // The data of the next `count` events.
  async data(count = 1) {
    const data = [];
    while (data.length < count) data.push((await this.next()).data);
    return data;
  }

  // What was heard and not taken.
  get rest() {
    return this.#unheard;
  }
}

// The next event of that name.
export function next(emitter, name) {
  return within(`heard ${name}`, new Promise((resolve) => emitter.once(name, resolve)));
}
