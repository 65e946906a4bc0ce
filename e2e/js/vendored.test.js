// The SDK that the program brings along is the published one.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";

const PACKAGE = new URL("node_modules/centrifuge/", import.meta.url);
const VENDORED = new URL("../../crates/dunlin/src/front/demo/vendor/", import.meta.url);

test("the demo page's SDK is that of the package, and so is its licence", async () => {
  const text = (file) => readFile(file, "utf8");
  for (const [published, vendored] of [["dist/centrifuge.js", "centrifuge.js"], ["LICENSE", "LICENSE"]]) {
    assert.ok(await text(new URL(published, PACKAGE)) === await text(new URL(vendored, VENDORED)), vendored);
  }
  const { version } = JSON.parse(await text(new URL("package.json", PACKAGE)));
  assert.match(await text(new URL("README.md", VENDORED)), new RegExp(`\`centrifuge\` ${version},`));
});
