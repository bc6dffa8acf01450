#!/usr/bin/env python3
"""test_runbook.py - the check of the runbook finds what is not in it."""
import importlib.machinery
import importlib.util
import os
import tempfile
import unittest

PATH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "runbook")
LOADER = importlib.machinery.SourceFileLoader("runbook", PATH)
runbook = importlib.util.module_from_spec(importlib.util.spec_from_loader("runbook", LOADER))
LOADER.exec_module(runbook)


class Lines(unittest.TestCase):
    def lines(self, source):
        return list(runbook.lines_of(source))

    def test_the_stretch_that_does_not_change(self):
        self.assertEqual(["of the journal is left"], self.lines(
            'put_log (effects, LOG_ERROR, about, "grant %" PRIu64 " of the journal is left", record->grant);'))
        self.assertEqual(["old records stay"], self.lines(
            'log_say ("journal", LOG_WARN, "%s: old records "\n   "stay: %s", self->path,\n  reason);'))

    def test_a_level_that_depends(self):
        self.assertEqual(["is down, they say"], self.lines('log_say (name, level, "%s is down, they say", x);'))

    def test_what_is_no_alarm_or_no_text_of_ours(self):
        self.assertEqual([], self.lines('put_log (effects, LOG_INFO, about, "all is well here");'))
        self.assertEqual([], self.lines('log_say (self_name, LOG_WARN, "%s: %s", path, reason);'))

    def test_bugs_are_one(self):
        self.assertEqual(["bug: "], self.lines('log_say (name, LOG_FATAL, "bug: a message %d of no kind", id);'))


class Checks(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = folder.name

    def write(self, path, text):
        path = os.path.join(self.root, path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)

    def test_a_line_that_is_not_told_of(self):
        self.write("bin/some.c", "".join('log_say (name, LOG_WARN, "the thing number %c is lost");\n' % letter
                                         for letter in "abcdefghijklmnopqrstu"))
        told = " ".join("the thing number %c is lost" % letter for letter in "abcdefghijklmnopqrst")
        self.assertEqual(['bin/some.c: docs/operate.md does not say what to do about "the thing number u is lost"'],
                         list(runbook.check_lines(self.root, told)))

    def test_a_test_that_is_not_there(self):
        names = ["test_number_%c" % letter for letter in "abcdefghijklmnopqrst"]
        self.write("tests/unit/test_all.c", "\n".join("static void %s (void)" % name for name in names))
        self.write("docs/reliability.md", " ".join("`%s`" % name for name in [*names, "test_all"]))
        self.assertEqual([], list(runbook.check_tests(self.root)))
        self.write("docs/reliability.md", " ".join("`%s`" % name for name in [*names, "test_gone"]))
        self.assertEqual(["docs/reliability.md names test_gone, which is not there"],
                         list(runbook.check_tests(self.root)))

    def test_metrics_of_a_table(self):
        self.assertEqual({"guerdon_position_seen", "guerdon_position_settled", "process_memory_bytes"},
                         runbook.table_of_metrics("| `guerdon_position_seen`, `_settled` | Ids. |\n"
                                                  "| `process_memory_bytes` | Memory. |\n| `other` | None. |\n"))
        self.assertEqual({"guerdon_http_milliseconds", "guerdon_ready"},
                         runbook.named("guerdon_http_milliseconds_bucket{le=\"1\"} and guerdon_ready == 0"))


if __name__ == "__main__":
    unittest.main()
