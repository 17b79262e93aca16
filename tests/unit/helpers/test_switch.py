"""The reader of Open vSwitch's words: what it reads, and that it tells different words apart."""

from ipaddress import IPv4Address, IPv6Address

import pytest

from tests.helpers.switch import Decision, read_trace

FLOOD = """\
Flow: udp,in_port=10,vlan_tci=0x0000,dl_src=02:00:00:00:00:01,dl_dst=ff:ff:ff:ff:ff:ff

bridge("br-int")
----------------
 0. in_port=10, priority 30, cookie 0xfd67fe253c2be0a
    write_metadata:0x1388
    goto_table:5
 5. metadata=0x1388, priority 10, cookie 0x147d97272467283
    output:10
     >> skipping output to input port
    output:11
    set_field:0x1388->tun_id
    set_field:10.1.0.2->tun_dst
    output:1
     -> output to native tunnel
     -> tunneling to 10.1.0.2 via br-phy

    bridge("br-phy")
    ----------------
         0. priority 0
            NORMAL
             -> forwarding to learned port
    set_field:0x1388->tun_id
    set_field:fd00::3->tun_ipv6_dst
    output:1
     -> output to native tunnel

bridge("br-phy")
----------------
 0. priority 0, cookie 0x5
    output:12

Final flow: unchanged
Datapath actions: 6
"""

REPORTED = """\
bridge("br-int")
----------------
 2. arp, priority 20, cookie 0xee8ecf182bd56aa1
    CONTROLLER:65535
"""

HAIRPIN = """\
bridge("br-int")
----------------
 3. metadata=0x1388,dl_dst=02:00:00:00:00:01, priority 30, cookie 0x7
    set_field:0x1388->tun_id
    set_field:10.1.0.2->tun_dst
    IN_PORT
"""

UNMATCHED = """\
bridge("br-int")
----------------
 0. in_port=10, priority 30, cookie 0xfd67fe253c2be0a
    goto_table:5
 5. No match.
    drop
"""


@pytest.mark.parametrize(
    ("trace", "expected"),
    [
        (
            FLOOD,
            Decision(
                0x147D97272467283,
                (11,),
                ((5000, IPv4Address("10.1.0.2")), (5000, IPv6Address("fd00::3"))),
                False,
            ),
        ),
        (REPORTED, Decision(0xEE8ECF182BD56AA1, (), (), True)),
        (HAIRPIN, Decision(7, (), ((5000, IPv4Address("10.1.0.2")),), False)),
        (UNMATCHED, Decision(None, (), (), False)),
    ],
)
def test_reads_what_a_switch_would_do(trace: str, expected: Decision) -> None:
    assert read_trace(trace) == expected
