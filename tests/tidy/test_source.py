"""test_source.py - each rule is shown what it must see, and what it must let be."""
import os
import tempfile
import unittest

import source


class House(unittest.TestCase):
    def complaints(self, rule, files):
        with tempfile.TemporaryDirectory() as root:
            for path, text in files.items():
                full = os.path.join(root, path)
                os.makedirs(os.path.dirname(full), exist_ok=True)
                with open(full, "w", encoding="utf-8") as file:
                    file.write(text)
            return [line.split(": ")[0] for line in source.RULES[rule](root)]

    def test_includes_go_down(self):
        files = {"proto/a.h": "", "include/b.h": "#include \"proto/a.h\"\n", "actors/base/c.h": "",
                 "actors/stats/d.h": "", "bin/e.h": "", "tests/f.h": "",
                 "actors/stats/d.c": "#include \"actors/stats/d.h\"\n#include \"include/b.h\"\n",
                 "actors/sandbox/g.c": "#include \"actors/base/c.h\"\n#include <pthread.h>\n",
                 "bin/e.c": "#include \"actors/base/c.h\"\n#include \"actors/stats/d.h\"\n"}
        self.assertEqual(self.complaints("directions", files), [])

    def test_includes_up_and_sideways_are_seen(self):
        files = {"proto/a.h": "\n#include \"include/b.h\"\n", "include/b.h": "",
                 "actors/base/c.h": "#include \"actors/stats/d.h\"\n",
                 "actors/stats/d.h": "#include \"actors/base/c.h\"\n#include <time.h>\n#include \"d.h\"\n",
                 "bin/e.h": "#include \"tests/f.h\"\n", "tests/f.h": ""}
        self.assertEqual(self.complaints("directions", files),
                         ["proto/a.h:2", "actors/base/c.h:1", "actors/stats/d.h:1", "actors/stats/d.h:2",
                          "actors/stats/d.h:3", "bin/e.h:1"])

    def test_a_library_has_one_file(self):
        files = {"proto/codec.c": "#include <msgpack.h>\n", "proto/raw.c": "#include <msgpack/unpack.h>\n",
                 "actors/base/bus.c": "#include <zmq.h>\n", "actors/base/shell.c": "/*\n*/\n#include <curl/curl.h>\n",
                 "bin/a.c": "#include <yajl/yajl_parse.h>\n#include <sqlite3.h>\n#include <zmq_utils.h>\n",
                 "tests/t.c": "#include <zmq.h>\n"}
        self.assertEqual(self.complaints("libraries", files),
                         ["proto/raw.c:1", "actors/base/shell.c:3", "bin/a.c:1", "bin/a.c:2", "bin/a.c:3"])

    def test_prototypes_without_a_comment_are_seen(self):
        header = ("/*  a.h - a header. */\n\nint bare (void);\n\n/*  Good. */\nint good (void);\nint group (int a,\n"
                  "           int b);\nint more (void);\n\nint alone (void);\n\nstruct s {\n    int (*f) (void);\n};\n"
                  "\n#define MACRO(x) f (x);\nvoid last (void) __attribute__ ((cold));\n"
                  "static inline int body (void)\n{\n    return f (1);\n}\n")
        self.assertEqual(self.complaints("prototypes", {"proto/a.h": header}),
                         ["proto/a.h:3", "proto/a.h:11", "proto/a.h:18", "proto/a.h:19"])

    def test_banned_calls_are_seen_and_words_are_not(self):
        code = ("/* strcpy (a) */\nint f (void)\n{\n    snprintf (a);\n    x = \"atoi (1)\";\n    atoi (x);\n"
                "    strcpy(a, b);\n    my_sleep (1);\n}\n")
        self.assertEqual(self.complaints("banned", {"bin/a.c": code}), ["bin/a.c:6", "bin/a.c:7"])

    def test_long_functions_are_seen(self):
        short = "int f (void)\n{\n" + "    f ();\n" * source.LENGTH_MAX + "}\n"
        long = "int g (void)\n{\n" + "    f ();\n" * (source.LENGTH_MAX + 1) + "}\n"
        table = "static int t[] = {\n" + "    1,\n" * 100 + "};\n"
        self.assertEqual(self.complaints("length", {"bin/a.c": short + table, "bin/b.c": short + long}),
                         [f"bin/b.c:{source.LENGTH_MAX + 4}"])

    def test_private_paths_are_seen(self):
        path = "/".join(("", "home", "someone"))
        files = {"bin/a.c": "/* /usr/home-made */\n", "bin/b.c": f"\nchar *p = \"{path}\";\n"}
        self.assertEqual(self.complaints("words", files), ["bin/b.c:2"])

    def test_another_layout_is_seen(self):
        files = {"bin/a.c": "int a;\n", "bin/b.c": "int  a ;\n", "proto/message.c": "int  a ;\n"}
        self.assertEqual([line.split(":")[0] for line in self.complaints("format", files)], ["bin/b.c"])


if __name__ == "__main__":
    unittest.main()
