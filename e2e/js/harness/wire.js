// The protocol by hand, for what the SDK does not do or does not show; and the plain dialect.

import WebSocket from "ws";

import { Ear } from "./ear.js";
import { within } from "./time.js";

export class Wire {
  // A connection to a path of the node; its frames are heard one by one.
  static async open(t, node, path = "/connection/websocket", protocols = []) {
    const wire = new Wire();
    wire.socket = new WebSocket(`ws://${node.address}${path}`, protocols);
    t.after(() => wire.socket.terminate());
    wire.frames = new Ear(wire.frameSource(), "frame");
    wire.closed = new Promise((resolve) => {
      wire.socket.on("close", (code, reason) => resolve({ code, reason: `${reason}` }));
    });
    await within(`open ${path}`, new Promise((resolve, reject) => {
      wire.socket.on("open", resolve).on("error", reject);
    }));
    return wire;
  }

  frameSource() {
    return {
      on: (_name, hear) => this.socket.on("message", (data, isBinary) => hear({ data, isBinary })),
    };
  }

  // Sends commands in one frame.
  send(...commands) {
    this.socket.send(commands.map((command) => JSON.stringify(command)).join("\n"));
  }

  // The replies and pushes of the next frame.
  async frame() {
    const { data } = await this.frames.next();
    return `${data}`.split("\n").filter(Boolean).map((line) => JSON.parse(line));
  }

  // The next message that `matches`; others before it are passed over.
  async message(matches) {
    for (;;) {
      const found = (await this.frame()).find(matches);
      if (found) return found;
    }
  }

  // The reply to a command.
  async ask(command) {
    this.send(command);
    return await this.message(({ id }) => id === command.id);
  }

  // How the server ended the connection.
  end() {
    return within("closed by the server", this.closed);
  }
}

// A connected one.
export async function wired(t, node, connect = {}) {
  const wire = await Wire.open(t, node);
  const reply = await wire.ask({ id: 1, connect });
  if (reply.error) throw new Error(`connect: ${reply.error.code}`);
  return wire;
}

// A client of the plain dialect.
export function plain(t, node, channel) {
  return Wire.open(t, node, `/ws/${channel}`);
}
