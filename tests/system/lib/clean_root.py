"""A Debian root with nothing in it but what is asked for, made once by mmdebstrap (that needs the network) and kept as a tarball in
the cache; and the packages of the build under test."""

import hashlib
import os
import re
import shutil
import subprocess
import tarfile

from . import paths, process

SUITE = "bookworm"


def tarball(more=()):
    """Debian with the packages' dependencies, systemd and `more`; None where it cannot be had."""
    wanted = subprocess.run([os.path.join(paths.ROOT, "packaging", "deps"), "--list", "runtime"],
                            capture_output=True, text=True, check=True).stdout.split() + ["systemd", *more]
    key = hashlib.sha256(" ".join([SUITE, *sorted(wanted)]).encode()).hexdigest()[:16]
    cache = os.environ.get("ANTIPODE_CACHE", os.path.expanduser("~/.cache/antipode"))
    path = os.path.join(cache, f"root-{SUITE}-{key}.tar")
    if not os.path.exists(path):
        os.makedirs(cache, exist_ok=True)
        making = f"{path}.{os.getpid()}.tar"
        done = subprocess.run(["mmdebstrap", "--variant=minbase", "--include=" + ",".join(wanted), SUITE, making],
                              capture_output=True, text=True, check=False)
        if done.returncode != 0:
            print(done.stderr[-2000:])
            return None
        os.rename(making, path)
    return path


def packages():
    """The packages of the build under test, by name and kind. CPack takes what is built; it builds nothing."""
    done = process.run(["cpack", "-G", "DEB;RPM" if shutil.which("rpmbuild") else "DEB", "--config", os.path.join(paths.build(), "CPackConfig.cmake"),
                        "-B", os.path.join(paths.build(), "package-test")], seconds=300)
    found = {}
    for path in re.findall(r"package: (\S+\.(?:deb|rpm)) generated", done.stdout):
        name = re.match(r"(antipode(?:-[a-z]+)*)[-_]\d", os.path.basename(path)).group(1)
        found[name, path.rsplit(".", 1)[1]] = path
    if not {("antipode", "deb"), ("antipode-tiebreaker", "deb")} <= set(found):
        raise AssertionError(done.stdout + done.stderr)
    return found


def unpack(path, root):
    shutil.rmtree(root, ignore_errors=True)
    os.makedirs(root)
    with tarfile.open(path) as archive:
        archive.extractall(root)
