"""The guests that tests run, each with what its VM needs.

Linux answers TCP and UDP requests after they are on its disk; udp_echo does so without an operating system. The others
talk to nobody: their console says how far they are."""

import os
import subprocess

from . import paths, process

LINUX_BUILD = os.path.join(paths.ROOT, "tests", "guests", "linux", "build")
LINUX_ARGUMENTS = ("console=ttyS0 nolapic noxsave notsc clearcpuid=smap,popcnt,rdrand,rdseed,rdtscp lpj=20000 rodata=off quiet "
                   "pmtmr=0x608")
MEBIBYTE = 1 << 20


class Guest:
    """Arguments may hold {address}, the pair's guest address with its prefix length."""

    def __init__(self, name, kernel, arguments, memory_mib, disk_bytes, initrd=None, network=False, transports=(), ready="ready",
                 vcpus=1, mode=None, tsc=None):
        self.name = name
        self.kernel = kernel
        self.initrd = initrd
        self.arguments = arguments
        self.memory_mib = memory_mib
        self.disk_bytes = disk_bytes
        self.network = network
        self.transports = transports  # in which it answers
        self.ready = ready            # what its console says when it works
        self.vcpus = vcpus
        self.mode = mode              # of protection; None: the default
        self.tsc = tsc                # its policy; None: the default


def bare_metal_image(name):
    path = os.path.join(paths.build(), "guests", f"{name}.elf")
    if not os.path.exists(path):
        raise FileNotFoundError(f"{path} is not built")
    return path


def linux(build=False):
    """The Linux guest; built first if asked (minutes, once), else None where it is not there."""
    command = [LINUX_BUILD] if build else [LINUX_BUILD, "--cached"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=None if build else subprocess.DEVNULL, text=True, check=False)
    if done.returncode != 0:
        if build:
            raise RuntimeError("the Linux guest could not be built")
        return None
    folder = done.stdout.strip().splitlines()[-1]
    return Guest("linux", os.path.join(folder, "vmlinux"),
                 f"{LINUX_ARGUMENTS} antipode.ip={{address}} antipode.port=7",
                 memory_mib=32, disk_bytes=64 * MEBIBYTE, initrd=os.path.join(folder, "initramfs.cpio"), network=True,
                 transports=("tcp", "udp"), ready="antipode-guest: ready")


def udp_echo():
    return Guest("udp_echo", bare_metal_image("udp_echo"),
                 "antipode.ip={address} antipode.port=7 antipode.clock_hz=50",
                 memory_mib=16, disk_bytes=64 * MEBIBYTE, network=True, transports=("udp",), ready="udp_echo: ready")


def udp_restless():
    """The echo service that reads the time-stamp counter at every turn, until it is sent `calm`: lockstep cannot follow it."""
    return Guest("udp_restless", bare_metal_image("udp_restless"),
                 "antipode.ip={address} antipode.port=7 antipode.clock_hz=50",
                 memory_mib=16, disk_bytes=64 * MEBIBYTE, network=True, transports=("udp",), ready="udp_echo: ready", mode="auto")


def smp_echo():
    """The echo service with a second vCPU that counts, which lockstep cannot have."""
    return Guest("udp_echo", bare_metal_image("udp_echo"),
                 "antipode.ip={address} antipode.port=7 antipode.clock_hz=50 antipode.smp=1",
                 memory_mib=16, disk_bytes=64 * MEBIBYTE, network=True, transports=("udp",), ready="udp_echo: ready",
                 vcpus=2, mode="checkpoint")


def smp_counter():
    return Guest("smp_counter", bare_metal_image("smp_counter"), "antipode.every=10", memory_mib=16, disk_bytes=4 * MEBIBYTE,
                 ready="smp_counter: line=2", vcpus=2, mode="checkpoint")


def tsc(vcpus=2):
    """It reads the time-stamp counter on each vCPU, and fails where one is behind what another has read."""
    return Guest("tsc", bare_metal_image("tsc"), f"antipode.every=10 antipode.smp={int(vcpus > 1)}", memory_mib=16,
                 disk_bytes=4 * MEBIBYTE, ready="tsc: line=2", vcpus=vcpus, mode="checkpoint", tsc="live")


def counted_lines(console):
    """The numbers of the lines that smp_counter, or tsc, has printed."""
    return [int(line.split("line=")[1].split()[0]) for line in console.splitlines() if "line=" in line and "second=" in line]


def counter():
    return Guest("counter", bare_metal_image("counter"), "antipode.hz=100 antipode.every=50", memory_mib=16,
                 disk_bytes=4 * MEBIBYTE, ready="counter: ready")


def disk_writer():
    return Guest("disk_writer", bare_metal_image("disk_writer"), "antipode.blocks=64 antipode.every=4", memory_mib=16,
                 disk_bytes=4 * MEBIBYTE, ready="disk_writer: round")


def compute(arguments="antipode.every=500"):
    return Guest("compute", bare_metal_image("compute"), arguments, memory_mib=16, disk_bytes=4 * MEBIBYTE,
                 ready="compute: units")


def diverge(arguments):
    """What a lockstep guest must not be: it reads clocks or chance that cannot be hidden."""
    return Guest("diverge", bare_metal_image("diverge"), arguments, memory_mib=16, disk_bytes=4 * MEBIBYTE, ready="diverge: units")


BARE_METAL = {"udp_echo": udp_echo, "counter": counter, "disk_writer": disk_writer, "compute": compute}


def by_name(name, build=False):
    if name == "linux":
        return linux(build)
    if name not in BARE_METAL:
        raise KeyError(f"no guest '{name}'; there are linux, {', '.join(sorted(BARE_METAL))}")
    return BARE_METAL[name]()


def check_ledger(disk, logs):
    """(acknowledged, lost, duplicated, sound, text) by ledger_check.py."""
    program = os.path.join(paths.ROOT, "tests", "system", "clients", "ledger_check.py")
    done = process.run(["python3", "-B", program, disk, *logs], check=False, seconds=120)
    last = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""
    fields = dict(part.split("=") for part in last.split() if "=" in part)
    if not {"acknowledged", "lost", "duplicated"} <= fields.keys():
        raise AssertionError(f"ledger_check said nothing usable:\n{done.stdout}{done.stderr}")
    counts = tuple(int(fields[name]) for name in ("acknowledged", "lost", "duplicated"))
    return (*counts, done.returncode == 0, done.stdout + done.stderr)
