"""What an interface needs that a userspace switch reads or writes."""

from nve.linux.namespace import run_in

_DROP_INBOUND = """\
qdisc add dev {interface} clsact
filter add dev {interface} ingress protocol all bpf da bytecode "1,6 0 0 2"
"""  # one BPF instruction: return TC_ACT_SHOT


def keep_from_kernel(pid: int, interface: str) -> None:
    """Leaves what arrives on `interface` to the userspace switch that reads it.

    The switch gets its copy before the ingress filters; without this one, the kernel's own stack
    would take the other, answer it a second time, and refuse tunnel packets as it knows no tunnel.
    """
    run_in(pid, ["tc", "-batch", "-"], _DROP_INBOUND.format(interface=interface))


def turn_offloads_off(pid: int, interface: str) -> None:
    """Makes the kernel finish packets before they leave `interface`.

    A userspace switch would else get checksums that nobody filled in, and packets longer than the
    MTU: TCP dies silently then, while ping works.
    """
    run_in(pid, ["ethtool", "-K", interface, "tx", "off", "tso", "off", "gso", "off", "gro", "off"])
