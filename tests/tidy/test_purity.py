"""test_purity.py NM CC AR - the purity check is shown what it must not let through."""
import os
import subprocess
import sys
import tempfile
import unittest

import purity

NM, CC, AR = sys.argv.pop(1), sys.argv.pop(1), sys.argv.pop(1)


class Purity(unittest.TestCase):
    def complaints(self, source):
        with tempfile.TemporaryDirectory() as folder:
            paths = [os.path.join(folder, name) for name in ("core.c", "core.o", "libcore.a")]
            with open(paths[0], "w", encoding="utf-8") as file:
                file.write(source)
            subprocess.run([CC, "-w", "-fPIC", "-O1", "-c", paths[0], "-o", paths[1]], check=True)
            subprocess.run([AR, "qc", paths[2], paths[1]], check=True)
            return purity.check(NM, [paths[2]])

    def test_a_pure_core_passes(self):
        self.assertEqual(self.complaints(
            "#include <string.h>\n#include <assert.h>\n"
            "static const char *const names[] = { \"a\", \"b\" };\n"
            "const char *name (unsigned i) { assert (i < 2); return names[i]; }\n"
            "void copy (char *to, const char *from, unsigned long n) { memcpy (to, from, n); }\n"), [])

    def test_clocks_memory_and_files_are_seen(self):
        for call in ("time (0)", "malloc (9)", "getenv (\"X\")", "open (\"x\", 0)", "strdup (\"x\")",
                     "strtok (0, \"x\")", "rand ()", "puts (\"x\")"):
            source = f"#pragma GCC diagnostic ignored \"-Wimplicit-function-declaration\"\nlong f (void) {{ return (long) {call}; }}\n"
            with self.subTest(call):
                self.assertIn(call.split()[0], " ".join(self.complaints(source)))

    def test_globals_are_seen(self):
        for line in ("int count;", "static int count = 5; int f (void) { return count++; }",
                     "_Thread_local int count;", "int count[4] = { 1 };",
                     "int f (void) { static int count; return count++; }"):
            with self.subTest(line):
                self.assertIn("count", " ".join(self.complaints(line + "\nint g (void) { return 1; }\n")))

    def test_nothing_to_check_is_no_pass(self):
        self.assertNotEqual(self.complaints("typedef int nothing;\n"), [])


if __name__ == "__main__":
    unittest.main()
