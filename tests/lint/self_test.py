#!/usr/bin/env python3
"""The lint rules catch what they are for, and leave alone what is right."""

import os
import subprocess
import tempfile
import unittest

import coroutines
import includes
import limits
import manuals
import purity
import source
import wrap


class Source(unittest.TestCase):
    def test_blank_keeps_lines_and_drops_content(self):
        text = 'a; // { one\n/* {\n} */ b; "c{" R"(x{\n)" \'{\';\n'
        blanked = source.blank(text)
        self.assertEqual(blanked.count("\n"), text.count("\n"))
        self.assertNotIn("{", blanked)
        self.assertIn("b;", blanked)

    def test_digit_separator_is_no_literal(self):
        self.assertIn("end", source.blank("int x = 1'000; int end = 2'000;"))

    def test_files_are_the_tracked_ones(self):
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(["git", "init", "-q", folder], check=True)
            for name in ("seen.h", "unseen.h"):
                with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
                    file.write("\n")
            subprocess.run(["git", "-C", folder, "add", "seen.h"], check=True)
            self.assertEqual(source.files(".h", root=folder), ["seen.h"])

    def test_files_without_git(self):
        with tempfile.TemporaryDirectory() as folder:
            os.makedirs(os.path.join(folder, "build"))
            for name in ("a.h", "build/b.h", "c.py"):
                with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
                    file.write("\n")
            self.assertEqual(source.files(".h", root=folder), ["a.h"])


class Includes(unittest.TestCase):
    def findings(self, path, *lines):
        return [sentence for _, sentence in includes.check(path, "\n".join(lines) + "\n")]

    def test_allowed(self):
        self.assertEqual(self.findings("replicator/replay/a.cc", '#include "common/wire/frame.h"', "#include <thread>"), [])
        self.assertEqual(self.findings("web/a.cc", '#include "replicator/control/control_api.h"'), [])

    def test_forbidden(self):
        self.assertEqual(len(self.findings("replicator/vmm/a.cc", '#include "replicator/replay/event.h"')), 1)
        self.assertEqual(len(self.findings("web/a.cc", '#include "replicator/control/node.h"')), 1)
        self.assertEqual(len(self.findings("replicator/control/a.cc", '#include "tiebreaker/store.h"')), 1)

    def test_pure(self):
        self.assertEqual(len(self.findings("common/wire/a.cc", "#include <thread>", "#include <boost/asio.hpp>")), 2)
        self.assertEqual(len(self.findings("tiebreaker/arbiter.cc", "#include <sqlite3.h>")), 1)
        self.assertEqual(len(self.findings("tiebreaker/arbiter.cc", '#include "tiebreaker/store.h"')), 1)
        self.assertEqual(len(self.findings("common/failover/a.cc", "auto t = MonotonicClock::now();")), 1)
        self.assertEqual(self.findings("tiebreaker/store.cc", "#include <sqlite3.h>"), [])

    def test_comment_is_no_include(self):
        self.assertEqual(self.findings("common/wire/a.cc", "// #include <thread>", "int x;  // MonotonicClock::now()"), [])

    def test_unknown_folder(self):
        self.assertEqual(len(self.findings("gadgets/a.cc", "int x;")), 1)

    def test_short_name(self):
        self.assertEqual(len(self.findings("web/a.cc", '#include "server.h"')), 1)


class Limits(unittest.TestCase):
    def test_functions(self):
        text = "\n".join([
            "namespace a {", "struct B {", "    int c = 1;", "    int get() const {", "        return c;", "    }", "};",
            "B::B(int x)", "    : c_{x}, d_(2), e_{[] { return 1; }()} {", "    if (x) {", "    }", "}",
            "const int kTable[] = {f(1), f(2)};", "auto lambda = [](int x) {", "    return x;", "};",
            "template <typename T = int>", "T id(T t) {", "    return t;", "}",
            "bool operator==(const B& a, const B& b) {", "    return true;", "}", "}  // namespace a", ""])
        names = [(name, first, last) for first, last, name in limits.functions(text)]
        self.assertEqual([name for name, _, _ in names], ["get", "B::B", "id", "operator=="])
        self.assertEqual(names[1], ("B::B", 8, 12))

    def test_long_function(self):
        body = "    x();\n" * 69
        self.assertEqual(limits.check("a.cc", "void f() {\n" + body[:-9 * 1] + "}\n"), [])
        findings = limits.check("a.cc", "void f() {\n" + body + "}\n")
        self.assertEqual(findings, [(1, "f has 71 lines; at most 70")])

    def test_gtest_macros_are_functions(self):
        text = "TEST(A, B) {\n" + "    x();\n" * 80 + "}\n"
        self.assertEqual(len(limits.check("a.cc", text)), 1)

    def test_extern_c(self):
        text = 'extern "C" int f() {\n' + "    x();\n" * 80 + "}\n"
        self.assertEqual(len(limits.check("a.cc", text)), 1)

    def test_lines(self):
        self.assertEqual(len(limits.check("a.cc", "int a;\n" * 801)), 1)
        self.assertEqual(len(limits.check("a.cc", "\tint a; \n")), 2)
        self.assertEqual(len(limits.check("a.cc", "int a;")), 1)
        self.assertEqual(len(limits.check("a.cc", "//" + "x" * 99 + "\n")), 1)
        self.assertEqual(len(limits.check("a.h", "int a;\n")), 2)
        self.assertEqual(limits.check("a.h", "// What it is.\n#pragma once\n"), [])


class Coroutines(unittest.TestCase):
    def count(self, body):
        return len(coroutines.check("a.cc", "awaitable<void> f() {\n" + body + "\n}\n"))

    def test_bad(self):
        self.assertEqual(self.count("co_await g([p] { return p; });"), 1)
        self.assertEqual(self.count("co_await g([&] { return p; });"), 1)
        self.assertEqual(self.count("co_await g(Aggregate{p, 3});"), 1)
        self.assertEqual(self.count("auto x = co_await g(a::Aggregate{.p = p});"), 1)
        self.assertEqual(self.count("co_await g(std::vector<int>{1, 2});"), 1)
        self.assertEqual(self.count("co_spawn(co_await this_coro::executor, [p]() -> awaitable<void> { co_return; }, detached);"), 1)
        self.assertEqual(self.count("if (co_await g(Aggregate{p})) { h(); }"), 1)
        self.assertEqual(self.count("for (;;) { if (x) co_await g(Aggregate{p}); }"), 1)

    def test_good(self):
        self.assertEqual(self.count("auto l = [p] { return p; };\nco_await g(std::move(l));"), 0)
        self.assertEqual(self.count("Aggregate a{p, 3};\nco_await g(std::move(a));"), 0)
        self.assertEqual(self.count("co_await g([](int x) { return x; });"), 0)
        self.assertEqual(self.count("co_await g(Class(p, 3));"), 0)
        self.assertEqual(self.count("co_await g(Empty{});"), 0)
        self.assertEqual(self.count("auto e = co_await this_coro::executor;\nco_spawn(e, [p]() -> awaitable<void> { co_await h(); }, d);"), 0)
        self.assertEqual(self.count("co_await g(Point{1, 2});  // lint: plain aggregate"), 0)
        self.assertEqual(self.count("x[i] = co_await g(a[j]);"), 0)
        self.assertEqual(self.count("if (x) { co_await g(); } else { h(Aggregate{p}); }"), 0)
        self.assertEqual(self.count("for (auto& a : b) { co_await g(); }\nh(Aggregate{p});"), 0)

    def test_line(self):
        self.assertEqual(coroutines.check("a.cc", "void f() {\n    a();\n    co_await g(\n        T{p});\n}\n")[0][0], 4)

    def test_member_initialisers(self):
        self.assertEqual(len(coroutines.check("a.cc", "A::A() : b_{1}, c_{2} { }\nT f() { co_await g(); }\n")), 0)


class Wrap(unittest.TestCase):
    def test_long_comment_moves_down(self):
        long = "// " + "word " * 20 + "end"
        out = wrap.wrapped([long, "// and on.", "//", "int x;"])
        self.assertTrue(all(len(line) <= 100 for line in out))
        self.assertEqual(" ".join(line[3:] for line in out[:2]), long[3:] + " and on.")
        self.assertEqual(out[2:], ["//", "int x;"])

    def test_list_items_hang_and_stay_apart(self):
        out = wrap.wrapped(["// - " + "word " * 20 + "end", "// - next"])
        self.assertEqual(len(out), 3)
        self.assertTrue(out[1].startswith("//   "))
        self.assertEqual(out[2], "// - next")

    def test_tables_and_code_stay(self):
        table = "// | a | " + "x" * 100
        code = "    call(" + "x" * 100 + ");"
        self.assertEqual(wrap.wrapped([table, code]), [table, code])


class Manuals(unittest.TestCase):
    CODE = """
FT_TRY_VOID(section.text("listen", config.listen));
FT_TRY_VOID(read_mib(section, "room_mib", config.room, 0, 9));
FT_TRY_VOID(section.text("listen", config.listen));
    Section{"drill", Need::optional, read_drill},
"""

    def test_what_is_missing_is_named_once_with_its_line(self):
        found = list(manuals.missing(self.CODE, "a room_mib_max, and more listeners; drill"))
        self.assertEqual([line for line, _ in found], [2, 3])
        self.assertIn('"room_mib"', found[1][1])

    def test_a_whole_manual(self):
        self.assertEqual(list(manuals.missing(self.CODE, ".BR listen room_mib\n.SS [drill]")), [])


class Purity(unittest.TestCase):
    def check(self, code):
        with tempfile.TemporaryDirectory() as folder:
            with open(os.path.join(folder, "a.cc"), "w", encoding="utf-8") as file:
                file.write(code)
            subprocess.run(["g++", "-c", "-std=c++20", "a.cc"], cwd=folder, check=True)
            subprocess.run(["ar", "rc", "a.a", "a.o"], cwd=folder, check=True)
            return [symbol for _, symbol in purity.undefined(os.path.join(folder, "a.a")) if purity.FORBIDDEN.match(symbol)]

    def test_clock_and_thread(self):
        found = self.check("#include <chrono>\n#include <thread>\nvoid f() { std::thread([] {}).join(); }\n"
                           "auto g() { return std::chrono::steady_clock::now(); }\n")
        self.assertTrue(any("clock3now" in symbol for symbol in found), found)
        self.assertTrue(any("thread" in symbol for symbol in found), found)

    def test_pure(self):
        self.assertEqual(self.check("#include <vector>\nint f(std::vector<int>& v) { v.push_back(1); return v.at(0); }\n"), [])


if __name__ == "__main__":
    unittest.main()
