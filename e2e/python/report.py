"""Runs unittest's tests; the last line is that of `cargo test`, which `./test` counts."""

import signal
import sys
import unittest

TEST_SECONDS = 30


class Result(unittest.TextTestResult):
    """Ends a test that waits for ever."""

    def startTest(self, test):
        super().startTest(test)
        signal.alarm(TEST_SECONDS)

    def stopTest(self, test):
        signal.alarm(0)
        super().stopTest(test)

    @property
    def broken(self):
        """The tests that did not pass, by name."""
        tests = [test for test, _ in self.failures + self.errors] + self.unexpectedSuccesses
        return sorted({getattr(test, "test_case", test).id() for test in tests})


def run(tests, tries=1):
    """Whether all passed. With more than one try, what did not pass is run again, alone."""
    signal.signal(signal.SIGALRM, late)
    runner = unittest.TextTestRunner(stream=sys.stdout, verbosity=2, resultclass=Result)
    result = runner.run(tests)
    ran, ignored, broken = result.testsRun, len(result.skipped), result.broken
    for _ in range(1, tries):
        if broken:
            print(f"measured: not at the first try: {', '.join(broken)}")
            broken = runner.run(unittest.defaultTestLoader.loadTestsFromNames(broken)).broken
    failed = len(broken)
    passed = max(0, ran - failed - ignored)
    verdict = "ok" if failed == 0 and passed > 0 else "FAILED"
    print(f"test result: {verdict}. {passed} passed; {failed} failed; {ignored} ignored")
    return verdict == "ok"


def late(*_):
    raise TimeoutError(f"not done in {TEST_SECONDS} s")
