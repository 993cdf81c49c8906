"""What every lint rule needs: the list of source files, and C++ text without comments and literals.

The files are those that git tracks, as they are in the working tree (so an unfinished file that nobody has added
is not looked at); without git, every file below the source tree. No rule looks at the history.
"""

import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SKIPPED_FOLDERS = {".git", "build", ".cache", "node_modules", "__pycache__"}


def files(*suffixes, root=ROOT):
    """Paths relative to root, sorted, with one of the suffixes (all files without any)."""
    try:
        listed = subprocess.run(
            ["git", "-C", root, "-c", "safe.directory=*", "ls-files", "-z"],
            capture_output=True, check=True).stdout.decode().split("\0")
    except (OSError, subprocess.CalledProcessError):
        listed = []
        for folder, folders, names in os.walk(root):
            folders[:] = [name for name in folders if name not in SKIPPED_FOLDERS]
            listed += [os.path.relpath(os.path.join(folder, name), root) for name in names]
    found = [path for path in listed if path and (not suffixes or path.endswith(suffixes))]
    return sorted(path for path in found if os.path.isfile(os.path.join(root, path)))


def read(path, root=ROOT):
    with open(os.path.join(root, path), encoding="utf-8") as file:
        return file.read()


LITERALS = re.compile(
    r"""//[^\n]*"""
    r"""|/\*.*?\*/"""
    r"""|R"(?P<mark>[^()\s\\]{0,16})\(.*?\)(?P=mark)\""""
    r"""|"(?:\\.|[^"\\\n])*\""""
    r"""|(?<![0-9a-zA-Z_])(?:u8|u|U|L)?'(?:\\.|[^'\\\n])+'""",
    re.DOTALL)


def blank(text, keep_strings=False):
    """The text with comments and literals emptied; every line stays where it is."""

    def replace(match):
        found = match.group(0)
        newlines = "\n" * found.count("\n")
        if found.startswith(("//", "/*")):
            return newlines or " "
        if keep_strings:
            return found
        return ("''" if found.endswith("'") else '""') + newlines

    return LITERALS.sub(replace, text)


def line_of(text, offset):
    return text.count("\n", 0, offset) + 1


def report(rule, findings):
    """Prints findings (path, line, sentence); the exit code."""
    for path, line, sentence in findings:
        print(f"{path}:{line}: {sentence}")
    print(f"{rule}: {len(findings)} finding{'s' if len(findings) != 1 else ''}")
    return 1 if findings else 0


def main(rule, check):
    """check(path, text) -> [(line, sentence)] over all C++ files."""
    findings = []
    for path in files(".h", ".cc"):
        findings += [(path, line, sentence) for line, sentence in check(path, read(path))]
    sys.exit(report(rule, findings))
