// A headless Chromium, driven by the DevTools protocol: JSON messages over a WebSocket per page.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

import WebSocket from "ws";

import { within } from "./time.js";

// Where to look for a browser; the variable CHROMIUM names another one.
const PROGRAMS = [
  process.env.CHROMIUM, "chromium", "chromium-browser", "google-chrome", "google-chrome-stable",
  "/Applications/Chromium.app/Contents/MacOS/Chromium",
  "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
].filter(Boolean);

const FLAGS = [
  "--headless", "--remote-debugging-port=0", "--no-first-run", "--no-default-browser-check",
  "--no-proxy-server", "--disable-background-networking", "--disable-component-update",
  "--disable-dev-shm-usage", "--disable-extensions", "--disable-gpu", "--disable-quic",
  "--disable-sync", "--password-store=basic",
  ...(process.getuid?.() === 0 ? ["--no-sandbox"] : []), // which root cannot have
];

export class Browser {
  static async start() {
    const browser = new Browser();
    browser.profile = await mkdtemp(join(tmpdir(), "dunlin-e2e-"));
    for (const program of PROGRAMS) {
      const flags = [...FLAGS, `--user-data-dir=${browser.profile}`, "about:blank"];
      browser.process = spawn(program, flags, { stdio: ["ignore", "ignore", "pipe"] });
      const started = once(browser.process, "spawn").then(() => true, () => false);
      if (!(await started)) continue;
      browser.address = await within("the browser listens", browser.listens());
      return browser;
    }
    throw new Error("no Chromium or Chrome: install one, or name it by CHROMIUM=FILE");
  }

  async listens() {
    const lines = createInterface({ input: this.process.stderr });
    for await (const line of lines) {
      const found = /DevTools listening on ws:\/\/([^/]+)/.exec(line);
      if (!found) continue;
      this.process.stderr.resume(); // its further complaints must go somewhere
      return found[1];
    }
    throw new Error("the browser ended");
  }

  // Opens a page, and has it loaded.
  async open(url) {
    const target = await fetch(`http://${this.address}/json/new?about:blank`, { method: "PUT" });
    const page = new Page();
    page.socket = new WebSocket((await target.json()).webSocketDebuggerUrl);
    const loaded = new Promise((resolve) => page.socket.on("message", (text) => {
      const message = JSON.parse(text);
      if (message.method === "Page.loadEventFired") resolve();
      page.hear(message);
    }));
    await within("the page is there", once(page.socket, "open"));
    await page.command("Page.enable", {});
    await page.command("Page.navigate", { url });
    await within(`${url} is loaded`, loaded);
    return page;
  }

  async kill() {
    const ended = once(this.process, "exit");
    this.process.kill("SIGKILL");
    await ended;
    await rm(this.profile, { recursive: true, force: true, maxRetries: 10 });
  }
}

class Page {
  #waiting = new Map();
  #asked = 0;

  hear({ id, result, error }) {
    this.#waiting.get(id)?.({ result, error });
    this.#waiting.delete(id);
  }

  async command(method, params) {
    const id = (this.#asked += 1);
    const answer = new Promise((resolve) => this.#waiting.set(id, resolve));
    this.socket.send(JSON.stringify({ id, method, params }));
    const { result, error } = await within(method, answer);
    if (error) throw new Error(`${method}: ${error.message}`);
    return result;
  }

  // The value of an expression, a promise's when it is kept.
  async value(expression) {
    const params = { expression, returnByValue: true, awaitPromise: true };
    const { result, exceptionDetails } = await this.command("Runtime.evaluate", params);
    if (exceptionDetails) {
      const { exception, text } = exceptionDetails;
      throw new Error(exception?.description ?? JSON.stringify(exception?.value) ?? text);
    }
    return result.value;
  }

  // Calls a function of ours in the page.
  call(run, ...values) {
    return this.value(`(${run})(${values.map((value) => JSON.stringify(value)).join(", ")})`);
  }
}
