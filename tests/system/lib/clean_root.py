"""A clean Debian root with the packages of the build under test, and what runs in it.

The root is made once by mmdebstrap (that needs the network) and kept as a tarball in the cache."""

import hashlib
import os
import re
import shutil
import subprocess
import tarfile

from . import paths, process

SUITE = "bookworm"


def missing(more=()):
    """Why there can be no clean root (with these packages, too) here; None where there can be one."""
    if os.geteuid() != 0:
        return "a clean root needs root"
    if not shutil.which("mmdebstrap"):
        return "mmdebstrap is not installed (packaging/deps)"
    if not os.path.isdir(os.path.join(paths.build(), "packaging")):
        return "the build has no packaging"
    return None if base_tarball(more) else "no clean root: mmdebstrap failed, and none is in the cache"


def base_tarball(more=()):
    """Debian with the packages' dependencies, systemd and `more`, and nothing else; None where it cannot be had."""
    wanted = subprocess.run([os.path.join(paths.ROOT, "packaging", "deps"), "--list", "runtime"],
                            capture_output=True, text=True, check=True).stdout.split() + ["systemd", *more]
    key = hashlib.sha256(" ".join([SUITE, *sorted(wanted)]).encode()).hexdigest()[:16]
    cache = os.environ.get("ANTIPODE_CACHE", os.path.expanduser("~/.cache/antipode"))
    tarball = os.path.join(cache, f"root-{SUITE}-{key}.tar")
    if not os.path.exists(tarball):
        os.makedirs(cache, exist_ok=True)
        making = f"{tarball}.{os.getpid()}.tar"
        done = subprocess.run(["mmdebstrap", "--variant=minbase", "--include=" + ",".join(wanted), SUITE, making],
                              capture_output=True, text=True, check=False)
        if done.returncode != 0:
            print(done.stderr[-2000:])
            return None
        os.rename(making, tarball)
    return tarball


def build_packages(folder="package-test", kinds="DEB;RPM"):
    """The packages of the build under test, by name and kind. CPack takes what is built; it builds nothing."""
    if not shutil.which("rpmbuild"):
        kinds = "DEB"
    done = process.run(["cpack", "-G", kinds, "--config", os.path.join(paths.build(), "CPackConfig.cmake"),
                        "-B", os.path.join(paths.build(), folder)], seconds=300)
    found = {}
    for path in re.findall(r"package: (\S+\.d?deb|\S+\.rpm) generated", done.stdout):
        name = re.match(r"(antipode(?:-[a-z]+)*)[-_]\d", os.path.basename(path)).group(1)
        found[name, path.rsplit(".", 1)[1]] = path
    if not {("antipode", "deb"), ("antipode-tiebreaker", "deb")} <= set(found):
        raise AssertionError(done.stdout + done.stderr)
    return found


class CleanRoot:
    """The root in a folder of its own; discard() removes it."""

    def __init__(self, folder, more=()):
        self.folder = folder
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)
        with tarfile.open(base_tarball(more)) as archive:
            archive.extractall(folder)

    def discard(self):
        shutil.rmtree(self.folder, ignore_errors=True)

    def path(self, name):
        return os.path.join(self.folder, name.lstrip("/"))

    def install(self, packages, names=("antipode", "antipode-tiebreaker"), check=True):
        """With nothing but what they depend on. (The plugin needs nbdkit, which the clean root has not.)"""
        for name in names:
            shutil.copy(packages[name, "deb"], self.path(f"{name}.deb"))
        return self.run("dpkg", "-i", *(f"/{name}.deb" for name in names), check=check)

    def command(self, *argv, user=None, network=True):
        """A command in the root, in a network of its own unless told otherwise."""
        command = ["unshare", "--mount", "--ipc", "--uts", *(["--net"] if network else []), "--", "chroot"]
        if user:
            command.append(f"--userspec={user}:{user}")
        return [*command, self.folder, *argv]

    def run(self, *argv, check=True, user=None):
        return process.run(self.command(*argv, user=user), check=check, seconds=120)

    def unit(self, name):
        """What a unit's [Service] says, by key, the values in order."""
        found = {}
        with open(self.path(f"usr/lib/systemd/system/{name}"), encoding="utf-8") as file:
            for key, value in re.findall(r"^(\w+)=(.*)$", file.read(), re.MULTILINE):
                found.setdefault(key, []).append(value)
        return found

    def unit_command(self, name, instance="", argv=None, mounts=()):
        """The command of a unit (or another) as systemd would run it: its user, groups and umask, no capability, no new
        privileges, and a state directory. Networks are the caller's. mounts: (what, where in the root)."""
        unit = self.unit(name)
        one = {key: values[-1].replace("%i", instance) for key, values in unit.items()}
        state = "/var/lib/" + one["StateDirectory"]
        owner = f"{one['User']}:{one['Group']}"
        groups = ",".join([one["Group"], *one.get("SupplementaryGroups", "").split()])
        argv = argv or one["ExecStart"].split()
        binds = "".join(f"mount --bind {what} {self.path(where)} && " for what, where in mounts)
        inner = f"umask {one['UMask']} && exec \"$@\""
        script = (f"{binds}chroot {self.folder} install -d -o {one['User']} -g {one['Group']} "
                  f"-m {one['StateDirectoryMode']} {state} && exec chroot {self.folder} "
                  f"setpriv --reuid={one['User']} --regid={one['Group']} --groups={groups} --bounding-set=-all "
                  f"--inh-caps=-all --no-new-privs -- sh -c '{inner}' {owner} \"$@\"")
        return ["unshare", "--mount", "--", "sh", "-c", script, "sh", *argv]
