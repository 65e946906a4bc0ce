// Nodes and a Redis as processes of their own, each in a folder that goes with it.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { PATIENCE, eventually } from "./time.js";

const CONFIG = fileURLToPath(new URL("../dunlin.toml", import.meta.url));

// A test that breaks down takes along what it started.
const running = new Set();
process.on("exit", () => { for (const { process } of running) process.kill("SIGKILL"); });

class Program {
  // Starts it; `said` grows with what it says.
  constructor(command, args) {
    this.said = "";
    this.process = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"] });
    running.add(this);
    this.process.on("error", (error) => { this.said += error; });
    this.process.on("exit", () => running.delete(this));
    for (const stream of [this.process.stdout, this.process.stderr]) {
      stream.setEncoding("utf8").on("data", (text) => { this.said += text; });
    }
  }

  get hasEnded() {
    return this.process.exitCode !== null || this.process.signalCode !== null;
  }

  async waitFor(what, holds) {
    await eventually(`${what}:\n${this.said}`, () => {
      if (this.hasEnded) throw new Error(`ended before ${what}:\n${this.said}`);
      return holds();
    });
  }

  // Ends it as hard as can be.
  async kill() {
    if (this.hasEnded) return;
    const ended = once(this.process, "exit");
    this.process.kill("SIGKILL");
    await ended;
  }
}

// A private Redis on a Unix socket, so that no port can be taken.
export class Redis extends Program {
  static async start() {
    const folder = await mkdtemp(join(tmpdir(), "dunlin-e2e-"));
    const socket = join(folder, "redis.sock");
    const options = ["--port", "0", "--unixsocket", socket, "--dir", folder];
    const redis = new Redis("redis-server", [...options, "--appendonly", "no", "--save", ""]);
    Object.assign(redis, { folder, socket, url: `redis+unix://${socket}` });
    await redis.waitFor("Redis answers", async () => await redis.command("PING").catch(() => ""));
    return redis;
  }

  // What Redis answers to an inline command, as it is on the wire.
  async command(line) {
    const socket = connect(this.socket).setEncoding("utf8");
    try {
      socket.on("connect", () => socket.write(`${line}\r\n`));
      const [answer] = await once(socket, "data", { signal: AbortSignal.timeout(PATIENCE) });
      return answer;
    } finally {
      socket.destroy();
    }
  }

  async kill() {
    await super.kill();
    await rm(this.folder, { recursive: true });
  }
}

// A node; alone with the memory broker if there is no Redis.
export class Node extends Program {
  static async start(redis, settings = []) {
    const all = ["listen=127.0.0.1:0", ...(redis ? [`redis.url=${redis.url}`] : []), ...settings];
    const flags = all.flatMap((setting) => ["--set", setting]);
    const program = process.env.DUNLIN;
    if (!program) throw new Error("DUNLIN names the program to test, as e2e/run does");
    const node = new Node(program, ["serve", "--config", CONFIG, "--log-format", "text", ...flags]);
    const address = /listening on http:\/\/(\S+)/;
    await node.waitFor("the node listens", () => address.test(node.said));
    [, node.address] = address.exec(node.said);
    return node;
  }

  // What the HTTP API answers: the result, or an Error with the code.
  async api(method, request = {}) {
    const answer = await fetch(`http://${this.address}/api/${method}`, {
      method: "POST",
      headers: { "X-API-Key": "api_key", "Content-Type": "application/json" },
      body: JSON.stringify(request),
      signal: AbortSignal.timeout(PATIENCE),
    });
    if (!answer.ok) throw new Error(`${method}: status ${answer.status}: ${await answer.text()}`);
    const { result, error, replies } = await answer.json();
    if (error) throw Object.assign(new Error(error.message), { code: error.code });
    return result ?? { replies };
  }
}
