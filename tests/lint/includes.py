#!/usr/bin/env python3
"""Who may include whom (docs/STYLE.md). One table; a folder that is not in it must not exist.

A module may include its own folder and the modules named for it. Pure files see no event loop, socket, thread or
clock: what they need to know about the world is given to them.
"""

import os
import re

import source

# The first matching path prefix says which module a file belongs to: most specific first.
MODULES = [
    ("common/base/", "base"),
    ("common/wire/", "wire"),
    ("common/env/", "env"),
    ("common/failover/", "failover"),
    ("replicator/vmm/", "vmm"),
    ("replicator/replay/", "replay"),
    ("replicator/checkpoint/", "checkpoint"),
    ("replicator/stream/", "stream"),
    ("replicator/control/control_api.h", "control_api"),
    ("replicator/control/", "control"),
    ("replicator/main.cc", "control"),
    ("replicator/dump_main.cc", "control"),
    ("disksync/", "disksync"),
    ("tiebreaker/", "tiebreaker"),
    ("web/", "web"),
    ("tests/", "tests"),
    ("cmake/", "cmake"),
]

EVERYTHING = {name for _, name in MODULES}
BELOW_CONTROL = {"base", "wire", "env", "failover", "vmm", "replay", "checkpoint", "stream", "disksync",
                 "control_api"}
ALLOWED = {
    "base": set(),
    "wire": {"base"},
    "env": {"base"},
    "failover": {"base", "wire"},
    "vmm": {"base"},
    "replay": {"base", "wire", "env", "vmm"},
    "checkpoint": {"base", "wire", "env", "vmm", "replay"},
    "stream": {"base", "wire", "env"},
    "disksync": {"base", "wire", "env"},
    "tiebreaker": {"base", "wire", "env", "failover"},
    "control_api": {"base"},
    "control": BELOW_CONTROL,
    "web": {"base", "env", "control_api"},
    "tests": EVERYTHING,
    "cmake": set(),
}

# Pure: a function of what it is given. Prefixes of paths.
PURE = [
    "common/wire/",
    "common/failover/",
    "tiebreaker/arbiter",
    "disksync/core/",
]
IMPURE_HEADERS = re.compile(
    r"^(boost/(asio|beast)|zmq|sqlite3|libnbd|thread$|mutex$|condition_variable$|future$|atomic$|ctime$|time\.h$"
    r"|sys/|unistd\.h$|fcntl\.h$|poll\.h$|linux/|fstream$|iostream$|filesystem$|random$|openssl/ssl)")
CLOCK = re.compile(r"\b(?:\w*[Cc]lock\w*::now|clock_gettime|gettimeofday|time\(NULL\)|time\(nullptr\)|std::rand)\b")

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*(?:"([^"]+)"|<([^>]+)>)', re.MULTILINE)


def module_of(path):
    for prefix, module in MODULES:
        if path == prefix or (prefix.endswith("/") and path.startswith(prefix)):
            return module
    return None


def is_pure(path):
    return any(path.startswith(prefix) for prefix in PURE)


def check(path, text):
    findings = []
    module = module_of(path)
    if module is None:
        return [(1, "belongs to no module of the include table (tests/lint/includes.py)")]
    code = source.blank(text, keep_strings=True)
    for match in INCLUDE.finditer(code):
        line = source.line_of(code, match.start())
        ours, theirs = match.groups()
        if theirs and is_pure(path) and IMPURE_HEADERS.match(theirs):
            findings.append((line, f"is pure and must not include <{theirs}>"))
        if not ours:
            continue
        target = module_of(ours)
        if target is None:
            # Generated code, and headers beside a test, are named without a folder of ours.
            if module != "tests" and not os.path.isfile(os.path.join(source.ROOT, "cmake", ours)):
                findings.append((line, f'"{ours}" is not named from the top of the tree'))
        elif target != module and target not in ALLOWED[module]:
            allowed = ", ".join(sorted(ALLOWED[module])) or "nothing of ours"
            findings.append((line, f'{module} must not include "{ours}" of {target} (it may: {allowed})'))
        elif is_pure(path) and target == module and not is_pure(ours):
            findings.append((line, f'is pure and must not include "{ours}", which is not'))
    if is_pure(path):
        bare = source.blank(text)
        for match in CLOCK.finditer(bare):
            findings.append((source.line_of(bare, match.start()), f"is pure and must not read a clock or chance: {match.group(0)}"))
    return findings


if __name__ == "__main__":
    source.main("includes", check)
