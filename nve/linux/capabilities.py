"""What this machine's kernel lets an NVE do, found out by trying it (adapter).

A list of modules or a kernel configuration says what *should* work; a container, a missing module
file or a locked-down host makes it untrue.  So every question below is answered by trying the
operation once in a network namespace that is removed afterwards.  Nothing of the host's own network
is touched.  The only trace is that the kernel may load a module which it would have loaded for the
run anyway.

Answers are cached as long as the process lives (`functools.cache`), so that one run cannot get two
different answers.  "No" is an answer, never an exception: if a tool is not installed or privileges
are missing, the capability cannot be used.
"""

import os
import re
import subprocess
from functools import cache
from pathlib import Path

PROBE_TIMEOUT_S = 10
SYSTEM_FOLDERS = "/usr/sbin:/sbin"
"""Where Debian keeps some of the tools: not on an ordinary user's path."""


def find_system_programs() -> None:
    """Look for programs in these folders as well, from now on, where it is looked for others beside
    them.  Root's path lacks them after `su` without `-`, and in cron."""
    path = os.environ.get("PATH", os.defpath).split(os.pathsep)
    more = [
        each
        for each in SYSTEM_FOLDERS.split(os.pathsep)
        if each not in path and each.replace("sbin", "bin") in path
    ]
    os.environ["PATH"] = os.pathsep.join([*path, *more])


@cache
def kernel_datapath_available() -> bool:
    """Return whether Open vSwitch can use the kernel's datapath; otherwise it uses its userspace
    one.
    """
    # The kernel does not load this module by itself.  Whether loading failed does not matter: it
    # may be there already, put there by a host whose modules a container cannot see.
    _succeeds(["modprobe", "--quiet", "openvswitch"])
    return _works_in_throwaway_namespace("ovs-dpctl add-dp probe")


@cache
def userspace_datapath_available() -> bool:
    """Return whether Open vSwitch's userspace datapath can create its internal ports (tap
    devices).
    """
    return _works_in_throwaway_namespace("ip tuntap add dev probe mode tap")


@cache
def netem_available() -> bool:
    """Return whether links can get delay, jitter and loss from the kernel (sch_netem)."""
    return _works_in_throwaway_namespace("tc qdisc add dev lo root netem delay 1ms 1ms loss 1%")


@cache
def ifb_available() -> bool:
    """Return whether inbound packets can be queued (ifb), which holding them for a moving VM
    needs.
    """
    return _works_in_throwaway_namespace("ip link add probe type ifb")


@cache
def vxlan_available() -> bool:
    """Return whether the kernel can carry VXLAN, which the kernel datapath needs."""
    return _works_in_throwaway_namespace("ip link add probe type vxlan external dstport 8472")


def available_memory_mb() -> int:
    """Return how much memory processes can get without swapping, in units of 2^20 bytes.

    This is MemAvailable of proc_meminfo(5).  It is not cached, as it changes.
    """
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    (found,) = (line.split()[1] for line in lines if line.startswith("MemAvailable:"))
    return int(found) >> 10


@cache
def cgroup2_mount() -> Path | None:
    """Return where the cgroup v2 hierarchy is mounted, or None if it is not.

    This is /sys/fs/cgroup, or a folder below it on a hybrid system.
    """
    return cgroup2_mount_in(Path("/proc/mounts").read_text(encoding="utf-8"))


def cgroup2_mount_in(mounts: str) -> Path | None:
    """Return the first cgroup v2 mount in the text of /proc/mounts (fields as in fstab(5)), or
    None.
    """
    for line in mounts.splitlines():
        _, mount_point, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(_without_octal_escapes(mount_point))
    return None


@cache
def freezer_available() -> bool:
    """Return whether VMs can be suspended: whether a cgroup with `cgroup.freeze` can be created
    here.
    """
    mount = cgroup2_mount()
    if mount is None:
        return False
    probe = mount / f"vmmlab-probe-{os.getpid()}"
    try:
        probe.mkdir()
    except OSError:
        return False
    try:
        (probe / "cgroup.freeze").write_text("0", encoding="ascii")
    except OSError:
        return False
    finally:
        probe.rmdir()
    return True


def _works_in_throwaway_namespace(command: str) -> bool:
    """Return whether `command` succeeds in a new network namespace, which ends with it."""
    # Without root a user namespace gives the same rights over the new network namespace, if the
    # machine allows it, so that an ordinary user can ask what root would find.
    as_root = [] if os.geteuid() == 0 else ["--map-root-user"]
    return _succeeds(["unshare", *as_root, "--net", *command.split()])


def _succeeds(argv: list[str]) -> bool:
    path = f"{os.environ.get('PATH', os.defpath)}:{SYSTEM_FOLDERS}"
    try:
        done = subprocess.run(
            argv,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=PROBE_TIMEOUT_S,
            env={**os.environ, "PATH": path},
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _without_octal_escapes(field: str) -> str:
    """A field of /proc/mounts, in which blanks and backslashes are written as \\ooo."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), field)


def multipath_tcp_available() -> bool:
    """Whether the kernel has Multipath TCP (RFC 8684)."""
    return Path("/proc/sys/net/mptcp/enabled").exists()
