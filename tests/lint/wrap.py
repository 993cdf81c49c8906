#!/usr/bin/env python3
"""wrap.py FILE...: breaks comment lines of more than 100 columns, which clang-format leaves as they are written.

What is too long moves down into the next line of the same paragraph, and so on. A line that is indented within the comment,
a list item, and an empty comment line each end a paragraph; a table or drawing is left alone for its author."""

import re
import sys

import limits

COMMENT = re.compile(r"^(\s*//\s?)(.*)$")
STARTS_ANEW = re.compile(r"^(\s|[-*|+]|\d+\.|$)")


def indentation(text):
    """What a continuation line begins with: list items hang."""
    match = re.match(r"^(\s*)([-*] |\d+\. )?", text)
    return " " * len(match.group(0))


def wrapped(lines):
    out = []
    carried = ""
    previous = None
    for line in lines:
        match = COMMENT.match(line)
        if carried:
            prefix, hanging = previous
            joins = match and match.group(1) == prefix and (
                not STARTS_ANEW.match(match.group(2)) or
                (hanging and match.group(2).startswith(hanging) and not STARTS_ANEW.match(match.group(2)[len(hanging):])))
            if joins:
                line = f"{prefix}{hanging}{carried} {match.group(2).strip()}"
            else:
                out += finish(f"{prefix}{hanging}{carried}", prefix, hanging)
            carried = ""
            match = COMMENT.match(line)
        if match and len(line) > limits.COLUMNS_MAX and "http" not in line and "|" not in line and "   " not in match.group(2).strip():
            prefix, hanging = match.group(1), indentation(match.group(2))
            cut = line.rfind(" ", len(prefix) + len(hanging) + 1, limits.COLUMNS_MAX + 1)
            if cut > 0:
                carried = line[cut + 1:]
                line = line[:cut]
                previous = (prefix, hanging)
        out.append(line)
    if carried:
        out += finish(f"{previous[0]}{previous[1]}{carried}", *previous)
    return out


def finish(line, prefix, hanging):
    """The rest of a paragraph, broken again if it is too long itself."""
    out = []
    while len(line) > limits.COLUMNS_MAX:
        cut = line.rfind(" ", len(prefix) + len(hanging) + 1, limits.COLUMNS_MAX + 1)
        if cut < 0:
            break
        out.append(line[:cut])
        line = f"{prefix}{hanging}{line[cut + 1:]}"
    return out + [line]


def main(paths):
    for path in paths:
        with open(path, encoding="utf-8") as file:
            text = file.read()
        changed = "\n".join(wrapped(text.split("\n")))
        if changed != text:
            with open(path, "w", encoding="utf-8") as file:
                file.write(changed)
            print(path)


if __name__ == "__main__":
    main(sys.argv[1:])
