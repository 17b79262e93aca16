"""Pull: NVEs keep an entry until it times out, and then ask the NVA (section 4.1)."""

DEFAULT_LIFETIME_S = 30


class Strategy:
    """Tells only the NVEs of the move itself; the others ask when their entry has expired."""

    lifetime_s: int | None

    def __init__(self, lifetime_s: int | None, keeps_expired: bool) -> None:
        self.keeps_expired = keeps_expired
        self.lifetime_s = DEFAULT_LIFETIME_S if lifetime_s is None else lifetime_s
        if self.lifetime_s < 1:
            raise ValueError(f"lifetime_s is {lifetime_s}; OpenFlow time-outs are whole seconds")

    def told_at_once(self, involved: frozenset[str], present: frozenset[str]) -> frozenset[str]:
        return involved
