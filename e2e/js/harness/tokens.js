// Tokens as a backend would make them.

import { createHmac } from "node:crypto";

const HEADER = base64({ alg: "HS256", typ: "JWT" });

function base64(value) {
  return Buffer.from(JSON.stringify(value)).toString("base64url");
}

// A token with these claims, signed with the secret of dunlin.toml or another.
export function token(claims, secret = "secret") {
  const signed = `${HEADER}.${base64(claims)}`;
  return `${signed}.${createHmac("sha256", secret).update(signed).digest("base64url")}`;
}

// For the claim `exp`: seconds from now.
export function inSeconds(seconds) {
  return Math.floor(Date.now() / 1000) + seconds;
}
