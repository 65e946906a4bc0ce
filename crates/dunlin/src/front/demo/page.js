// What both tabs share. Text from others only ever goes into text nodes (textContent): it is never
// parsed as HTML.

const LOG_LINES = 500;

export const $ = (id) => document.getElementById(id);
export const element = (tag, className, text) => {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
};
export const clip = (text, most) => text.length > most ? text.slice(0, most) + "…" : text;

// What stands after # in the address.
export function channel() {
  let name = location.hash.slice(1);
  try { name = decodeURIComponent(name); } catch { /* taken as it is */ }
  return name;
}

// Calls `rejoin` whenever another channel is chosen: in the form, or in the address.
export function followChannel(rejoin) {
  $("join").onsubmit = (event) => {
    event.preventDefault();
    location.hash = $("channel").value;
    $("text").focus();
  };
  $("channel").onblur = () => { if ($("channel").checkValidity()) location.hash = $("channel").value; };
  addEventListener("hashchange", rejoin);
}

// Shows which node answers us, and returns its name.
export async function askNode() {
  let node = null;
  try {
    const answer = await fetch(new URL("health", document.baseURI), { cache: "no-store" });
    node = clip(String((await answer.json()).node), 60);
  } catch { /* unknown */ }
  $("node").textContent = node || "unknown";
  $("node").title = node || "";
  paintNode($("node"), node || "");
  return node;
}

export function setState(is, text) {
  $("state").dataset.is = is;
  $("state").textContent = text;
  document.querySelector("#compose button").disabled = is !== "open";
}

// ── The log ───────────────────────────────────────────────────────────────────────────────────

let unread = 0;

// Adds lines, which are so many messages; stays at the end if it is there.
export function append(lines, messages = 0) {
  const log = $("log"), atEnd = isAtEnd();
  unread = atEnd ? 0 : unread + messages;
  log.append(lines);
  while (log.childElementCount > LOG_LINES) log.firstElementChild.remove();
  if (atEnd) log.scrollTop = log.scrollHeight;
  $("newer").hidden = atEnd;
  $("newer").textContent = unread === 1 ? "1 newer message" : `${unread} newer messages`;
}

export function note(text) {
  append(element("p", "note", text));
}

function isAtEnd() {
  const log = $("log");
  return log.scrollHeight - log.scrollTop - log.clientHeight < 40;
}

$("newer").onclick = () => { $("log").scrollTop = $("log").scrollHeight; };
$("log").onscroll = () => { if (isAtEnd()) { unread = 0; $("newer").hidden = true; } };

// ── Names ─────────────────────────────────────────────────────────────────────────────────────

// Neighbouring names get distant hues, the same on every page.
export function hue(name) {
  let hash = 0;
  for (const character of name) hash = (hash * 31 + character.codePointAt(0)) % 65536;
  return (hash * 137.5) % 360;
}

export function paintNode(target, name) {
  target.classList.toggle("of-node", name !== "");
  target.style.setProperty("--hue", hue(name));
}

const BIRDS = ["Avocet", "Curlew", "Godwit", "Knot", "Lapwing", "Plover", "Ruff", "Sanderling", "Snipe", "Stint", "Turnstone", "Whimbrel"];
const remembered = (() => { try { return sessionStorage.getItem("name"); } catch { return null; } })();
$("name").value = remembered || `${BIRDS[Math.floor(Math.random() * BIRDS.length)]} ${10 + Math.floor(Math.random() * 90)}`;
$("name").onchange = () => { try { sessionStorage.setItem("name", $("name").value); } catch { /* not kept */ } };
