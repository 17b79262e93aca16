"""What a real switch would do with a frame, parsed from Open vSwitch's output.

The values are those of `nve.pipeline.evaluator`, so that a test compares like with like;
`nve.pipeline.flow_dump` parses what a switch holds.
"""

import json
import re
import socket
from dataclasses import dataclass
from ipaddress import ip_address

from nve.model import Vtep
from nve.ovs.bridge import INTEGRATION, OvsInstance
from nve.pipeline.evaluator import Frame, PacketVerdict
from nve.pipeline.rules import VXLAN_PORT

# Open vSwitch's names for OpenFlow's fields, where they differ.
OVS_NAMES = {
    "ipv4_src": "nw_src",
    "ip_proto": "nw_proto",
    "ipv6_nd_target": "nd_target",
    "ipv6_nd_tll": "nd_tll",
    "tunnel_id": "tun_id",
    "tun_ipv4_src": "tun_src",
}
# A field has to come after its prerequisites.
FIRST = ("eth_type", "ip_proto", "icmpv6_type")


@dataclass(frozen=True)
class Decision:
    """What a switch would do with a frame; `cookie` is that of the rule that decided."""

    cookie: int | None
    ports: tuple[int, ...]
    tunnels: tuple[tuple[int, Vtep], ...]
    reported: bool


def decision(switch: OvsInstance, frame: Frame) -> Decision:
    """Return what the switch would do with a frame that came in at `frame["in_port"]`."""
    names = [*(name for name in FIRST if name in frame), *sorted(frame.keys() - FIRST)]
    described = ",".join(f"{OVS_NAMES.get(name, name)}={frame[name]}" for name in names)
    return read_trace(_appctl(switch, "ofproto/trace", INTEGRATION, described))


def decision_of(verdict: PacketVerdict) -> Decision:
    """Return the decision that corresponds to the evaluator's verdict."""
    cookie = verdict.last.cookie if verdict.last else None
    return Decision(cookie, verdict.ports, verdict.tunnels, verdict.reported)


def _appctl(switch: OvsInstance, method: str, *words: str) -> str:
    """Run an ovs-appctl command without starting a process, as a test does so a thousand times."""
    (control,) = switch.directory.glob("ovs-vswitchd.*.ctl")
    request = {"method": method, "params": words, "id": 0}
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(control))
        client.sendall(json.dumps(request).encode())
        answered = b""
        while True:
            received = client.recv(65536)
            assert received, f"ovs-vswitchd of {switch.name} has hung up"
            answered += received
            try:
                answer = json.loads(answered)
            except ValueError:  # there is more to come
                continue
            assert answer["error"] is None, answer["error"]
            return str(answer["result"])


def read_trace(text: str) -> Decision:
    """Parse what `ovs-appctl ofproto/trace` prints: rules by table, below each its actions.

    What other bridges do with the frame (`br-phy` sends what a tunnel has wrapped) is indented
    deeper, or comes later.
    """
    _, _, ours = text.partition(f'bridge("{INTEGRATION}")')
    cookie: int | None = None
    ports: list[int] = []
    tunnels: list[tuple[int, Vtep]] = []
    vni, to, reported = 0, "", False
    for line in ours.splitlines():
        if line.startswith("bridge("):
            break
        if rule := re.match(r" ?\d+\. (?:.*, cookie 0x([0-9a-f]+)|No match)", line):
            cookie = int(rule[1], 16) if rule[1] else None
        elif line == "     >> skipping output to input port":
            ports.pop()
        elif field := re.match(r"    set_field:(.+)->(tun_id|tun_dst|tun_ipv6_dst)$", line):
            vni, to = (int(field[1], 0), to) if field[2] == "tun_id" else (vni, field[1])
        elif line in (f"    output:{VXLAN_PORT}", "    IN_PORT"):
            tunnels.append((vni, ip_address(to)))
        elif output := re.match(r"    output:(\d+)$", line):
            ports.append(int(output[1]))
        elif line.startswith("    CONTROLLER"):
            reported = True
    return Decision(cookie, tuple(ports), tuple(tunnels), reported)
