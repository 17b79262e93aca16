"""Prepares interfaces that a userspace switch reads or writes."""

from nve.linux.namespace import run_in

_DROP_INBOUND = """\
qdisc add dev {interface} clsact
filter add dev {interface} ingress protocol all bpf da bytecode "1,6 0 0 2"
"""  # one BPF instruction: return TC_ACT_SHOT


def keep_from_kernel(pid: int, interface: str) -> None:
    """Keep the kernel's own stack from handling what arrives on `interface`.

    The userspace switch gets its copy before the ingress filters.  Without the filter set here, the
    kernel would handle the other copy: answer it a second time, and refuse tunnel packets, as it
    knows no tunnel.
    """
    run_in(pid, ["tc", "-batch", "-"], _DROP_INBOUND.format(interface=interface))


def turn_offloads_off(pid: int, interface: str) -> None:
    """Make the kernel finish packets before they leave `interface`.

    Otherwise a userspace switch would get packets without checksums, or longer than the MTU: TCP
    then fails silently while ping works.
    """
    run_in(pid, ["ethtool", "-K", interface, "tx", "off", "tso", "off", "gso", "off", "gro", "off"])
