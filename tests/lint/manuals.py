#!/usr/bin/env python3
"""Each setting that a program reads from a TOML file stands in that file's manual page."""

import re

import source

MANUALS = {
    "replicator/control/pair_config.cc": "packaging/man/antipode-pair.toml.5",
    "tiebreaker/config.cc": "packaging/man/antipode-tiebreaker.toml.5",
    "disksync/service/group_config.cc": "packaging/man/antipode-disk.toml.5",
}
# What reads a setting: section.text("key", ...), read_mib(section, "key", ...), top.section("name"), Section{"name", ...}.
READS = re.compile(r'(?:\b(?:section|top|admin)\.\w+\(|\bread_\w+\((?:section|top), |\bSection\{)"(\w+)"')


def missing(code, manual):
    """(line, what is wrong) of each setting in `code` that `manual` has not."""
    seen = set()
    for match in READS.finditer(code):
        key = match.group(1)
        if key not in seen and not re.search(rf"\b{key}\b", manual):
            yield source.line_of(code, match.start()), f"reads the setting \"{key}\", which its manual page has not"
        seen.add(key)


def check(path, text):
    if path not in MANUALS:
        return []
    return list(missing(text, source.read(MANUALS[path])))


if __name__ == "__main__":
    source.main("manuals", check)
