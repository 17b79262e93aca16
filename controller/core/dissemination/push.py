"""Push: the NVA tells every NVE that has VMs in the virtual network (section 7)."""


class Strategy:
    """Tells every NVE with a VM in the network at once; entries stay until told otherwise."""

    lifetime_s: int | None = None

    keeps_expired = False

    def __init__(self, lifetime_s: int | None, keeps_expired: bool) -> None:
        if lifetime_s is not None:
            raise ValueError("with push, entries have no lifetime; leave lifetime_s out")
        if keeps_expired:
            raise ValueError("with push, entries do not expire; leave on_expiry out")

    def told_at_once(self, involved: frozenset[str], present: frozenset[str]) -> frozenset[str]:
        return involved | present
