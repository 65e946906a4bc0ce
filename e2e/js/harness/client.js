// The SDK as applications use it, on a cable that can be pulled.

import { Centrifuge } from "centrifuge";
import { Centrifuge as ProtobufCentrifuge } from "centrifuge/build/protobuf";
import WebSocket from "ws";

import { Ear } from "./ear.js";
import { within } from "./time.js";
import { token } from "./tokens.js";

// Nobody listens there.
const NOWHERE = "ws://127.0.0.1:1";

// The way from a client to a node: may be pulled, plugged into another node, and listened to.
export class Cable {
  frames = [];
  isPulled = false;

  constructor(node, query = "") {
    const cable = this;
    this.node = node;
    this.WebSocket = class extends WebSocket {
      constructor(_endpoint, protocols) {
        const endpoint = `ws://${cable.node.address}/connection/websocket${query}`;
        super(cable.isPulled ? NOWHERE : endpoint, protocols ?? []);
        cable.socket = this;
        this.on("message", (data, isBinary) => cable.frames.push(isBinary ? data : `${data}`));
        this.on("error", () => {}); // the SDK hears of it by itself
      }
    };
  }

  // Cuts the connection as a broken network does, and lets no new one through.
  pull() {
    this.isPulled = true;
    this.socket.terminate();
  }

  plug(node = this.node) {
    this.node = node;
    this.isPulled = false;
  }
}

// An SDK client that ends with the test. `user` gets a token; none is anonymous.
export function clientOf(t, node, { user, claims, protobuf, query, ...options } = {}) {
  const Client = protobuf ? ProtobufCentrifuge : Centrifuge;
  const cable = new Cable(node, query);
  const client = new Client("ws://by.cable", {
    websocket: cable.WebSocket,
    minReconnectDelay: 1,
    maxReconnectDelay: 50,
    ...(user || claims ? { token: token({ sub: user, ...claims }) } : {}),
    ...options,
  });
  client.cable = cable;
  client.on("connected", (context) => { client.id = context.client; });
  t.after(() => client.disconnect());
  return client;
}

// A connected one.
export async function connected(t, node, options) {
  const client = clientOf(t, node, options);
  client.connect();
  await within("connected", client.ready());
  return client;
}

// A subscription of the client that is in force, with an ear for its publications.
export async function subscribed(client, channel, options) {
  const subscription = client.newSubscription(channel, quick(options));
  subscription.publications = new Ear(subscription, "publication");
  subscription.subscribe();
  await within(`subscribed to ${channel}`, subscription.ready());
  return subscription;
}

// Options with which nothing is waited for long.
export function quick(options) {
  return { minResubscribeDelay: 1, maxResubscribeDelay: 50, ...options };
}
