#!/usr/bin/env python3
"""Sizes and shape: files of at most 800 lines, functions of at most 70, 100 columns, no tabs, no spaces at line
ends, `#pragma once` and an opening comment in every header.

Functions are found by their braces, not by a compiler: an opening brace in a namespace or class whose head has a
parameter list. What is longer for a good reason (a table) is no function and is not measured.
"""

import re
import sys

import source

FILE_LINES_MAX = 800
FUNCTION_LINES_MAX = 70
COLUMNS_MAX = 100

SCOPE_HEAD = re.compile(r"\b(namespace|class|struct|union|enum|extern)\b")
MEMBER_INITIALISER = re.compile(r"\)\s*(?:noexcept\s*(?:\([^()]*\))?\s*)?(?:try\s*)?:(?!:)")
PREPROCESSOR = re.compile(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", re.MULTILINE)


def closing_brace(code, start):
    """Offset of the brace that closes the one at start."""
    depth = 0
    for offset in range(start, len(code)):
        if code[offset] == "{":
            depth += 1
        elif code[offset] == "}":
            depth -= 1
            if depth == 0:
                return offset
    return len(code) - 1


def function_head(head):
    """Whether `head {` opens a function's body: it has a parameter list and is no scope and no initialiser."""
    outside = re.sub(r"template\s*<[^{;]*?>\s*(?=\w)", "", head)
    before_parameters = outside.split("(", 1)[0]
    if SCOPE_HEAD.search(before_parameters) and not re.search(r"\boperator\b", before_parameters):
        # `struct X make(...) {` is rare; `extern "C" int f() {` is not.
        if not before_parameters.strip().startswith('extern ""'):
            return False
    if "(" not in outside:
        return False
    return "=" not in re.sub(r"operator\s*[=!<>+\-*/]+|[=!<>]=|\([^()]*\)", "", before_parameters)


def functions(text):
    """(first line, last line, name) of each function body."""
    code = source.blank(text)
    code = PREPROCESSOR.sub(lambda match: "\n" * match.group(0).count("\n"), code)
    found = []
    offset = head_start = 0
    while offset < len(code):
        character = code[offset]
        if character in ";}":
            head_start = offset + 1
        elif character == "{":
            head = code[head_start:offset]
            before = code[:offset].rstrip()[-1:]
            if MEMBER_INITIALISER.search(head) and (before.isalnum() or before in "_>"):
                offset = closing_brace(code, offset) + 1  # a member's braces; the body is still to come
                continue
            if function_head(head):
                end = closing_brace(code, offset)
                name = head.strip().split("(", 1)[0].split()[-1:] or ["?"]
                first = source.line_of(code, head_start + len(head) - len(head.lstrip()))
                found.append((first, source.line_of(code, end), name[0]))
                offset = end
            elif not SCOPE_HEAD.search(head):
                offset = closing_brace(code, offset)  # an initialiser
            head_start = offset + 1
        offset += 1
    return found


def check(path, text):
    findings = []
    lines = text.split("\n")
    if text.endswith("\n"):
        lines.pop()
    else:
        findings.append((len(lines), "the last line does not end"))
    if len(lines) > FILE_LINES_MAX:
        findings.append((len(lines), f"{len(lines)} lines; at most {FILE_LINES_MAX}: which two topics are in here?"))
    for number, line in enumerate(lines, 1):
        if "\t" in line:
            findings.append((number, "a tab"))
        if line != line.rstrip():
            findings.append((number, "spaces at the end of the line"))
        if len(line) > COLUMNS_MAX and "http" not in line:
            findings.append((number, f"{len(line)} columns; at most {COLUMNS_MAX}"))
    if path.endswith(".h"):
        if "#pragma once" not in lines:
            findings.append((1, "a header without #pragma once"))
        if not text.startswith(("//", "/*")):
            findings.append((1, "a header opens with what it is, which thread calls it, its invariants"))
    for first, last, name in functions(text):
        if last - first + 1 > FUNCTION_LINES_MAX:
            findings.append((first, f"{name} has {last - first + 1} lines; at most {FUNCTION_LINES_MAX}"))
    return findings


def check_script(text):
    """Scripts: tabs and ends of lines only."""
    findings = []
    for number, line in enumerate(text.split("\n"), 1):
        if "\t" in line:
            findings.append((number, "a tab"))
        if line != line.rstrip():
            findings.append((number, "spaces at the end of the line"))
    return findings


if __name__ == "__main__":
    all_findings = []
    for file in source.files(".h", ".cc"):
        all_findings += [(file, *finding) for finding in check(file, source.read(file))]
    for file in source.files(".py", ".sh", ".cmake", ".ts", "CMakeLists.txt"):
        all_findings += [(file, *finding) for finding in check_script(source.read(file))]
    sys.exit(source.report("limits", all_findings))
