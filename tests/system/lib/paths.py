"""Where the source and the build are. ctest sets ANTIPODE_BUILD_DIR; by hand, the newest of release and dev is taken."""

import os

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))


def build():
    chosen = os.environ.get("ANTIPODE_BUILD_DIR")
    if chosen:
        return chosen
    candidates = [os.path.join(ROOT, "build", name) for name in ("release", "dev")]
    built = [path for path in candidates if os.path.isdir(os.path.join(path, "bin"))]
    if not built:
        raise FileNotFoundError(f"nothing is built below {ROOT}/build; run cmake --preset release and build it")
    return max(built, key=lambda path: os.stat(os.path.join(path, "bin")).st_mtime)


def program(name):
    path = os.path.join(build(), "bin", name)
    if not os.access(path, os.X_OK):
        raise FileNotFoundError(f"{path} is not built")
    return path


def has_program(name):
    try:
        program(name)
        return True
    except FileNotFoundError:
        return False
