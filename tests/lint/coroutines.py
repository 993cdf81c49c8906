#!/usr/bin/env python3
"""g++ 12.2 destroys some temporaries twice when their full expression contains co_await: lambdas that capture, and
aggregates with an owning member. So, in a statement with co_await: no lambda with captures, no `Type{...}` with
content. Name it first and std::move it (docs/STYLE.md).

A brace-initialised temporary without an owning member is harmless; a comment `lint: plain aggregate` on its line
says so. The body of a lambda is no part of the statement that the lambda stands in.
"""

import re

import source

TOKEN = re.compile(r"[A-Za-z_]\w*|::|->|\d[\w.']*|[^\s\w]")
PARDON = "lint: plain aggregate"
CLOSING = {"(": ")", "[": "]", "{": "}"}
KEYWORDS = {"return", "co_return", "co_yield", "co_await", "else", "do", "try", "const", "noexcept", "mutable", "override",
            "final", "new", "throw", "case", "operator"}
HEADS = {"if", "for", "while", "switch", "catch", "else", "do", "try", "namespace", "class", "struct", "union", "enum",
         "extern"}


class Group:
    """Brackets with what is in them."""

    def __init__(self, opening, line):
        self.text = opening
        self.line = line
        self.children = []


class Word:
    def __init__(self, text, line):
        self.text = text
        self.line = line


class Statement:
    def __init__(self):
        self.nodes = []
        self.awaits = False
        self.suspects = []


def parse(text):
    """The tree of brackets of a file."""
    code = source.blank(text)
    code = re.sub(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", lambda m: "\n" * m.group(0).count("\n"), code, flags=re.MULTILINE)
    top = Group("", 1)
    stack = [top]
    line, last = 1, 0
    for match in TOKEN.finditer(code):
        line += code.count("\n", last, match.start())
        last = match.start()
        token = match.group(0)
        if token in CLOSING:
            group = Group(token, line)
            stack[-1].children.append(group)
            stack.append(group)
        elif token in CLOSING.values():
            if len(stack) > 1 and CLOSING[stack[-1].text] == token:
                stack.pop()
        else:
            stack[-1].children.append(Word(token, line))
    return top


def is_name(node):
    return isinstance(node, Word) and re.match(r"[A-Za-z_]", node.text) and node.text not in KEYWORDS


def text_of(nodes, index):
    return nodes[index].text if 0 <= index < len(nodes) else ""


def lambda_body(nodes, index):
    """The index of the body when a lambda's captures stand at index, else None."""
    before = nodes[index - 1] if index else None
    if is_name(before) or (isinstance(before, Group) and before.text in "([") or text_of(nodes, index - 1) == "operator":
        return None
    for at in range(index + 1, len(nodes)):
        node = nodes[at]
        if isinstance(node, Group) and node.text == "{":
            return at
        if isinstance(node, Group) and node.text == "[" or node.text in {";", ",", "="}:
            return None
    return None


def is_temporary(nodes, index):
    """Whether the braces at index initialise an unnamed object: `Type{`, not `Type name{`."""
    at = index - 1
    if text_of(nodes, at) == ">":
        return True
    if at < 0 or not is_name(nodes[at]):
        return False
    while text_of(nodes, at - 1) == "::" and at >= 2 and is_name(nodes[at - 2]):
        at -= 2
    before = nodes[at - 1] if at else None
    return not (is_name(before) or (isinstance(before, Word) and before.text in {">", "&", "*"}))


class Checker:
    def __init__(self, text):
        self.lines = text.split("\n")
        self.findings = []

    def finish(self, statement):
        if statement.awaits:
            self.findings += statement.suspects
        return Statement()

    def code(self, nodes):
        """The content of a block: statements."""
        statement = Statement()
        index = 0
        while index < len(nodes):
            node = nodes[index]
            if isinstance(node, Word) and node.text == ";":
                statement = self.finish(statement)
            elif isinstance(node, Group) and node.text == "{" and self.is_block(statement.nodes):
                statement = self.finish(statement)
                self.code(node.children)
            else:
                end = self.expression_node(nodes, index, statement)
                statement.nodes += nodes[index:end]
                index = end
                continue
            index += 1
        self.finish(statement)

    def is_block(self, head):
        """Whether braces after this head of a statement hold statements, not values."""
        if not head or (isinstance(head[0], Word) and head[0].text in HEADS):
            return True
        last = head[-1]
        if isinstance(last, Group):
            return last.text == "(" or (last.text == "{" and any(node.text == ":" for node in head))
        if last.text in {"const", "noexcept", "override", "final", "mutable", "else", "do", "try"}:
            return True
        return any(node.text == "->" for node in head) and any(isinstance(node, Group) for node in head) and (
            is_name(last) or last.text == ">") and not any(node.text in {"=", "return", "co_await"} for node in head)

    def expression(self, nodes, statement):
        index = 0
        while index < len(nodes):
            index = self.expression_node(nodes, index, statement)

    def expression_node(self, nodes, index, statement):
        """Looks at one node; the index behind what it looked at."""
        node = nodes[index]
        if isinstance(node, Word):
            statement.awaits |= node.text in {"co_await", "co_yield"}
            return index + 1
        if node.text == "[":
            body = lambda_body(nodes, index)
            if body is not None:
                if node.children:
                    statement.suspects.append((node.line, "a lambda with captures in a statement with co_await"))
                self.code(nodes[body].children)
                return body + 1
        elif node.text == "{" and node.children and is_temporary(nodes, index):
            if PARDON not in self.lines[node.line - 1]:
                name = text_of(nodes, index - 1)
                statement.suspects.append((node.line, f"a temporary {name}{{...}} in a statement with co_await"))
        self.expression(node.children, statement)
        return index + 1


def check(path, text):
    if "co_await" not in text:
        return []
    checker = Checker(text)
    checker.code(parse(text).children)
    return sorted(set(checker.findings))


if __name__ == "__main__":
    source.main("coroutines", check)
