"""Runs unittest's tests and ends with the line that `cargo test` ends with, which `./test` counts."""

import sys
import unittest


def run(tests):
    """Whether all passed."""
    result = unittest.TextTestRunner(stream=sys.stdout, verbosity=2).run(tests)
    failed = len(result.failures) + len(result.errors) + len(result.unexpectedSuccesses)
    ignored = len(result.skipped)
    passed = max(0, result.testsRun - failed - ignored)
    verdict = "ok" if failed == 0 and passed > 0 else "FAILED"
    print(f"test result: {verdict}. {passed} passed; {failed} failed; {ignored} ignored")
    return verdict == "ok"
