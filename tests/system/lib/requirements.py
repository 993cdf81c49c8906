"""What a test needs of this machine. A test that cannot run says why and exits with 77, which ctest counts as skipped."""

import os
import shutil
import sys

SKIPPED = 77


def skip(reason):
    print(f"skipped: {reason}", flush=True)
    sys.exit(SKIPPED)


def missing_for_namespaces():
    """Why network namespaces cannot be made, or None."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    for tool in ("ip", "nsenter"):
        if not shutil.which(tool):
            return f"{tool} is not installed (packaging/deps)"
    return None


def missing_for_guests():
    """Why guests cannot run, or None."""
    if not os.path.exists("/dev/kvm"):
        return "there is no /dev/kvm"
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "/dev/kvm may not be opened by this user"
    if not os.path.exists("/dev/net/tun"):
        return "there is no /dev/net/tun"
    return None


def require(*reasons):
    """require(missing_for_namespaces(), missing_for_guests()): skips with the first reason."""
    for reason in reasons:
        if reason:
            skip(reason)
