"""Where an NVE sends, by what its forwarding databases say."""

from ipaddress import ip_address

from nve.linux_bridge.fdb import FdbChange, FdbEntry, Learned, read
from nve.model import Mac, TenantSystem, vni

VM = TenantSystem(vni(5000), Mac("02:00:00:00:00:01"))
NAMESAKE = TenantSystem(vni(6000), VM.mac)
ONE, TWO = ip_address("10.1.0.1"), ip_address("fd00::2")
PLUG, OUTER = "p-vm1", "vxlan5000"


def test_entries_are_read_with_port_and_vtep_and_those_of_other_devices_left_out() -> None:
    text = """[
        {"mac":"33:33:00:00:00:01","ifname":"to-core","flags":["self"],"state":"permanent"},
        {"mac":"02:00:00:00:00:01","ifname":"p-vm1","flags":[],"master":"br5000","state":""},
        {"mac":"02:00:00:00:00:02","ifname":"vxlan5000","flags":[],"master":"br5000","state":""},
        {"mac":"02:00:00:00:00:02","ifname":"vxlan5000","dst":"10.1.0.1","flags":["self"],
         "state":""},
        {"mac":"00:00:00:00:00:00","ifname":"vxlan5000","dst":"fd00::2","flags":["self"],
         "state":"permanent"}
    ]"""
    assert read(text) == [
        FdbEntry(Mac("02:00:00:00:00:01"), PLUG),
        FdbEntry(Mac("02:00:00:00:00:02"), OUTER),
        FdbEntry(Mac("02:00:00:00:00:02"), OUTER, ONE),
        FdbEntry(Mac("00:00:00:00:00:00"), OUTER, TWO, learned=False),
    ]


def after(*changes: FdbChange) -> Learned:
    learned = Learned()
    for change in changes:
        learned.apply(change, is_plug=change.interface != OUTER)
    return learned


HERE = FdbChange(VM, PLUG, None)
OUT = FdbChange(VM, OUTER, None)
AT_ONE, AT_TWO = FdbChange(VM, OUTER, ONE), FdbChange(VM, OUTER, TWO)


def gone(change: FdbChange) -> FdbChange:
    return FdbChange(change.system, change.interface, change.vtep, gone=True)


def test_nobody_is_known_at_first() -> None:
    assert after().way(VM) is None


def test_a_plug_of_its_own_goes_before_a_vtep() -> None:
    assert after(OUT, AT_ONE).way(VM) == ONE
    assert after(OUT, AT_ONE, HERE).way(VM) == PLUG
    assert after(HERE, OUT, AT_ONE).way(VM) == ONE


def test_what_is_left_when_an_entry_is_gone() -> None:
    assert after(OUT, AT_ONE, HERE, gone(HERE)).way(VM) == ONE
    assert after(HERE, gone(HERE)).way(VM) is None
    assert after(OUT, AT_ONE, gone(AT_ONE)).way(VM) is None
    # The VXLAN device decides where the bridge knows nothing: it sends there then, too.
    assert after(OUT, AT_ONE, gone(OUT)).way(VM) == ONE


def test_what_is_gone_does_not_take_along_what_came_in_its_place() -> None:
    assert after(OUT, AT_ONE, AT_TWO, gone(AT_ONE)).way(VM) == TWO
    assert after(HERE, FdbChange(VM, "p-vm9", None), gone(HERE)).way(VM) == "p-vm9"


def test_the_same_address_in_another_network_is_another() -> None:
    assert after(HERE).way(NAMESAKE) is None
