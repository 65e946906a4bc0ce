// The second tab: a channel with a memory, over the Centrifuge protocol and its own SDK. Shows what
// was said before, who is here, and that a connection that was cut off misses nothing.

import { fly } from "./flock.js";
import { $, append, askNode, channel, clip, element, followChannel, hue, note, setState } from "./page.js";

const NAMESPACE = "demo", DEFAULT = "room", TEXT_CHARS = 4000;
const HISTORY_LINES = 50, CHATTER_EVERY = 900, PRESENCE_AFTER = 150;

// ── The line to the node: what the SDK takes for a WebSocket, and we can cut ──────────────────

class Line {
  static isCut = false;
  static current = null;

  constructor(...address) {
    Line.current = this;
    if (Line.isCut) return void setTimeout(() => this.fail());
    this.socket = new WebSocket(...address);
    for (const event of ["onopen", "onmessage", "onerror", "onclose"]) {
      this.socket[event] = (happened) => this[event]?.(happened);
    }
  }

  send(data) { this.socket.send(data); }
  close() { this.socket?.close(); }

  // Breaks as a network does: without a goodbye, and nothing comes through any more.
  fail() {
    const told = this.onclose;
    this.onopen = this.onmessage = this.onerror = this.onclose = null;
    this.close();
    told?.({ code: 1006, reason: "" });
  }
}

function connection(options) {
  const address = new URL("connection/websocket", document.baseURI);
  address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  address.hash = "";
  return new Centrifuge(address.href, options);
}

const client = connection({ websocket: Line, maxReconnectDelay: 2000 });
let id = null;           // what the node calls this connection
let subscription = null;

client.on("connecting", () => setState(Line.isCut ? "lost" : "wait", Line.isCut ? "unplugged" : "connecting"));
client.on("connected", (context) => { id = context.client; askNode(); });
client.on("disconnected", ({ code, reason }) => {
  setState("lost", clip(reason, 60));
  if (code >= 3500) explain();
});

function join() {
  if (subscription) {
    subscription.unsubscribe();
    client.removeSubscription(subscription);
  }
  $("channel").value = channel();
  $("log").replaceChildren();
  names.clear();
  showMembers({});
  if (!$("channel").checkValidity()) return setState("lost", "that is no channel's name");
  const name = `${NAMESPACE}:${channel() || DEFAULT}`;
  document.title = `${name} – Dunlin`;
  const mine = subscription = client.newSubscription(name, { joinLeave: true });
  mine.on("subscribed", (context) => {
    setState("open", "connected");
    askMembers();
    if (context.recovered) return countRecovered(context);
    begin(mine, context);
  });
  mine.on("publication", (publication) => hear(publication));
  mine.on("join", askMembers);
  mine.on("leave", askMembers);
  mine.on("unsubscribed", ({ code, reason }) => {
    if (mine !== subscription || code === 0) return;
    setState("lost", clip(reason, 60));
    if (code === 102 || code === 103) explain();
  });
  mine.subscribe();
  client.connect();
}

// ── The stream ────────────────────────────────────────────────────────────────────────────────

let position = { offset: 0, epoch: "" };
let held = null;         // what arrives while the history is on its way
let recovered = null;    // what arrives because it was missed

// Shows what was said before us; after a loss, all that is still known.
async function begin(mine, context) {
  if (context.wasRecovering) note("The history does not reach back to where we were: what came in between is lost to this page.");
  held = [];
  const { publications, offset, epoch } = await mine.history({ limit: HISTORY_LINES, reverse: true });
  if (mine !== subscription) return;
  move({ offset: 0, epoch });
  if (!publications.length) welcome();
  for (const publication of publications.reverse()) show(publication, "past");
  move({ offset, epoch });
  const since = held;
  held = null;
  for (const publication of since) if (publication.offset > offset) hear(publication);
}

function hear(publication) {
  if (held) return void held.push(publication);
  if (recovered) recovered.push(publication);
  show(publication, recovered ? "recovered" : "now");
  move({ offset: publication.offset, epoch: position.epoch });
}

// The SDK hands over what was missed before it does anything else.
function countRecovered({ streamPosition }) {
  recovered = [];
  queueMicrotask(() => {
    const missed = position.offset - streamPosition.offset, came = recovered.length;
    recovered = null;
    note(missed ? `Back again: missed ${missed}, recovered ${came}.` : "Back again: nothing was missed.");
  });
}

function move(to) {
  position = to;
  $("position").textContent = to.offset;
  $("position").title = `offset ${to.offset}, epoch ${to.epoch}`;
}

function show({ data, info, offset }, when) {
  document.querySelector("#log .empty")?.remove();
  const { name, text } = understand(data);
  if (info && name) learnName(info.client, name);
  const made = element("div", `message first ${when}`);
  const who = element("p", "who");
  who.append(element("span", "", name || "from outside"));
  if (info?.client === id) who.append(element("span", "you", " (you)"));
  if (info) who.append(tag(info.client));
  made.append(who, element("p", "text", clip(text, TEXT_CHARS)));
  const mark = element("p", "when");
  if (when !== "now") mark.append(element("span", "trip", when === "past" ? "from history" : "recovered"));
  mark.append(element("span", "", `#${offset}`));
  made.append(mark);
  append(made, 1);
  if (when !== "past") fly(performance.now(), info?.client);
}

// A message of this page, or whatever else somebody published: shown as it is.
function understand(data) {
  const { name, text } = data ?? {};
  if (typeof name === "string" && typeof text === "string") return { name: clip(name, 40), text };
  return { text: typeof data === "string" ? data : JSON.stringify(data) };
}

function welcome() {
  $("log").append(element("p", "empty", "Nothing yet. Write something, pull the plug, and plug in again: what was said meanwhile is not lost."));
}

// What an operator has to do, in place of the log.
async function explain() {
  const told = element("div", "empty");
  told.append(element("p", "", "This node has no channels for this tab. `dunlin demo` has some; or put this into the configuration file:"));
  $("log").replaceChildren(told);
  const settings = await fetch(new URL("demo/demo.toml", document.baseURI));
  told.append(element("pre", "", await settings.text()));
}

// ── Who is here ───────────────────────────────────────────────────────────────────────────────

const names = new Map(); // client id -> the name it last wrote under
let members = {};
let asking = 0;

function learnName(client, name) {
  if (names.get(client) === name) return;
  names.set(client, name);
  showMembers(members);
}

// One question answers for many who come and go at once.
function askMembers() {
  clearTimeout(asking);
  const mine = subscription;
  asking = setTimeout(async () => {
    const answer = await mine.presence().catch(() => null); // it is asked again when we are back
    if (answer && mine === subscription) showMembers(answer.clients);
  }, PRESENCE_AFTER);
}

function showMembers(clients) {
  members = clients;
  const all = Object.keys(clients).sort((a, b) => (b === id) - (a === id) || a.localeCompare(b));
  $("count").textContent = all.length || "–";
  $("members").replaceChildren(...all.map((one) => {
    const made = element("li", "");
    made.append(element("span", "", names.get(one) || (one === id ? $("name").value : "a silent one")));
    if (one === id) made.append(element("span", "you", " (you)"));
    made.append(tag(one));
    return made;
  }));
}

// The beginning of a client's id, in its colour.
function tag(client) {
  const made = element("span", "of-node", client.slice(0, 8));
  made.style.setProperty("--hue", hue(client));
  return made;
}

// ── The plug ──────────────────────────────────────────────────────────────────────────────────

let chatter = null;      // goes on talking while we are cut off, and counts what we miss

function pull() {
  Line.isCut = true;
  $("plug").textContent = "Plug in again";
  document.body.classList.add("unplugged");
  note("Unplugged. Somebody goes on talking:");
  const told = $("log").lastElementChild;
  chatter = connection();
  const talk = chatter.newSubscription(subscription.channel);
  let missed = 0;
  talk.on("publication", () => { told.textContent = `Unplugged. Somebody goes on talking: ${missed += 1} missed so far.`; });
  const say = () => talk.publish({ name: "Somebody", text: `You cannot hear this (${missed + 1})` }).catch(() => {});
  talk.on("subscribed", say);
  chatter.timer = setInterval(say, CHATTER_EVERY);
  talk.subscribe();
  chatter.connect();
  Line.current?.fail();
}

function plugIn() {
  clearInterval(chatter.timer);
  chatter.disconnect();
  chatter = null;
  Line.isCut = false;
  $("plug").textContent = "Pull the plug";
  document.body.classList.remove("unplugged");
  dispatchEvent(new Event("online")); // the SDK need not wait
}

// ── Start ─────────────────────────────────────────────────────────────────────────────────────

$("plug").onclick = () => (Line.isCut ? plugIn() : pull());
$("compose").onsubmit = (event) => {
  event.preventDefault();
  const text = $("text").value.trim();
  if (!text || subscription.state !== "subscribed") return;
  subscription.publish({ name: $("name").value.trim(), text }).catch(({ message }) => note(`Not sent: ${clip(message, 100)}`));
  $("text").value = "";
  $("text").focus();
};
followChannel(join);

join();
