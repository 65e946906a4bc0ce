// The first tab: a chat over the plain dialect, a frame in, a frame out.

import { fly } from "./flock.js";
import { $, append, askNode, channel, clip, element, followChannel, note, paintNode, setState } from "./page.js";

const LOG_LINES = 500, TEXT_CHARS = 4000, RATE_SECONDS = 5;
const BACKOFF_FIRST = 250, BACKOFF_MOST = 15000, STEADY_AFTER = 5000;

let node = null;         // the name of the node that answers us
let socket = null;
let tries = 0;           // failed attempts since the connection was last steady
let timer = 0;           // the next attempt
let last = null;         // who wrote the last line
const pending = new Map(); // own messages that have not come back: id -> when they were sent

const milliseconds = (value) => `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;

// ── Connection ────────────────────────────────────────────────────────────────────────────────

function address() {
  const name = channel();
  const url = new URL(name ? `ws/${encodeURIComponent(name)}` : "ws", document.baseURI);
  url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  url.hash = "";
  return url;
}

function connect() {
  clearTimeout(timer);
  setState("wait", tries ? "reconnecting" : "connecting");
  const mine = socket = new WebSocket(address());
  mine.binaryType = "arraybuffer";
  let steady = 0;
  mine.onopen = () => {
    if (mine !== socket) return;
    steady = setTimeout(() => { tries = 0; }, STEADY_AFTER);
    setState("open", "connected");
    askNode().then((name) => { node = name; });
  };
  mine.onmessage = (event) => { if (mine === socket) receive(event.data); };
  mine.onclose = (event) => {
    clearTimeout(steady);
    if (mine === socket) lost(event.code, event.reason);
  };
}

// Full jitter: any delay up to a bound that doubles. A node that leaves (1012) is followed at once,
// spread over a second; one that asks for patience (1013) gets at least a second of it.
function lost(code, reason) {
  socket = null;
  if (pending.size) remark(`${pending.size} sent but not seen again: the connection ended first.`);
  pending.clear();
  const bound = Math.min(BACKOFF_MOST, BACKOFF_FIRST * 2 ** tries);
  tries = Math.min(tries + 1, 16);
  let delay = Math.random() * bound;
  if (code === 1012) delay = Math.random() * 1000;
  if (code === 1013) delay = 1000 + Math.random() * Math.max(bound, 2000);
  const why = { 1006: "no answer", 1012: "the node is leaving", 1013: "asked to come later" }[code];
  const said = clip(why || reason || `closed with ${code}`, 60);
  setState("lost", `${said}, again in ${(delay / 1000).toFixed(1)} s`);
  timer = setTimeout(connect, delay);
}

function rejoin() {
  const old = socket;
  socket = null;
  pending.clear();
  tries = 0;
  if (old) old.close(1000);
  $("channel").value = channel();
  document.title = channel() ? `#${channel()} – Dunlin` : "Dunlin";
  $("log").replaceChildren();
  last = null;
  welcome();
  if ($("channel").checkValidity()) return connect();
  clearTimeout(timer);
  setState("lost", "that is no channel's name");
}

// ── Messages ──────────────────────────────────────────────────────────────────────────────────

function send(text) {
  const id = Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, "0")).join("");
  pending.set(id, performance.now());
  socket.send(JSON.stringify({ id, name: $("name").value.trim(), node, text, sent: Date.now() }));
}

function receive(data) {
  const now = performance.now();
  const message = understand(data);
  const sentAt = pending.get(message.id);
  if (sentAt !== undefined) {
    pending.delete(message.id);
    message.trip = now - sentAt;
    $("trip").textContent = milliseconds(message.trip);
  }
  count(now);
  fly(now, message.node);
  arrived.push(message);
  if (arrived.length > LOG_LINES) arrived.shift();
  if (!drawing) drawing = requestAnimationFrame(drawArrived);
}

// A message of this page, or whatever else somebody published: shown as it is.
function understand(data) {
  if (typeof data !== "string") return { text: `${data.byteLength} bytes of binary` };
  try {
    const { id, name, node, text, sent } = JSON.parse(data);
    if (typeof text === "string" && typeof name === "string" && typeof id === "string") {
      return { id, name: clip(name, 40), node: typeof node === "string" ? clip(node, 60) : "", text, sent: Number(sent) };
    }
  } catch { /* not ours */ }
  return { text: data };
}

let arrived = [], drawing = 0;

function drawArrived() {
  drawing = 0;
  document.querySelector("#log .empty")?.remove();
  const lines = document.createDocumentFragment();
  for (const message of arrived) lines.append(line(message));
  append(lines, arrived.length);
  arrived = [];
}

function line(message) {
  const made = element("div", "message");
  const author = message.id ? `${message.name}\n${message.node}` : "\n";
  if (message.trip !== undefined) made.classList.add("own");
  if (!message.id) made.classList.add("outside");
  if (author !== last) {
    made.classList.add("first");
    const who = element("p", "who");
    who.append(element("span", "", message.id ? message.name : "from outside"));
    if (message.trip !== undefined) who.append(element("span", "you", " (you)"));
    if (message.node) {
      const tag = element("span", "of-node", message.node);
      paintNode(tag, message.node);
      who.append(tag);
    }
    made.append(who);
    last = author;
  }
  made.append(element("p", "text", clip(message.text, TEXT_CHARS)));
  const at = new Date(Number.isFinite(message.sent) ? message.sent : Date.now());
  const when = element("p", "when");
  if (message.trip !== undefined) when.append(element("span", "trip", milliseconds(message.trip)));
  const time = Number.isNaN(at.getTime()) ? "" : at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  when.append(element("time", "", time));
  made.append(when);
  return made;
}

function remark(text) {
  last = null;
  note(text);
}

function welcome() {
  const text = element("p", "empty", "Nothing yet. Open this page once more, best on another node, and type: what is written in one is read in the other.");
  text.append(element("br"), "A program joins with ", element("code", "", address().href));
  $("log").append(text);
}

// ── Figures ───────────────────────────────────────────────────────────────────────────────────

const seconds = new Map(); // second -> messages

function count(now) {
  const second = Math.floor(now / 1000);
  seconds.set(second, (seconds.get(second) || 0) + 1);
}

setInterval(() => {
  const second = Math.floor(performance.now() / 1000);
  let sum = 0;
  for (const [key, messages] of seconds) {
    if (key < second - RATE_SECONDS) seconds.delete(key);
    else if (key < second) sum += messages;
  }
  const rate = sum / RATE_SECONDS;
  $("rate").textContent = rate === 0 ? "0" : rate < 10 ? rate.toFixed(1) : Math.round(rate).toLocaleString();
}, 500);

// ── Start ─────────────────────────────────────────────────────────────────────────────────────

$("compose").onsubmit = (event) => {
  event.preventDefault();
  const text = $("text").value.trim();
  if (!text || socket?.readyState !== WebSocket.OPEN) return;
  send(text);
  $("text").value = "";
  $("text").focus();
};
followChannel(rejoin);
addEventListener("online", () => { if (!socket) connect(); });

rejoin();
