// Counts tests as `cargo test` does, for ./test, and repeats what was measured.

export default async function* report(events) {
  const counts = { passed: 0, failed: 0, ignored: 0 };
  for await (const { type, data } of events) {
    const isTest = data?.details?.type !== "suite";
    if (type === "test:pass" && isTest) counts[data.skip || data.todo ? "ignored" : "passed"] += 1;
    if (type === "test:fail" && isTest) counts.failed += 1;
    if (type === "test:diagnostic" && data.message.startsWith("measured: ")) yield `${data.message}\n`;
  }
  const { passed, failed, ignored } = counts;
  const verdict = passed > 0 && failed === 0 ? "ok" : "FAILED";
  yield `test result: ${verdict}. ${passed} passed; ${failed} failed; ${ignored} ignored\n`;
}
