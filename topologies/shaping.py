"""The `tc` commands that make a link slow, lossy or narrow.  Pure: text in, text out.

**netem**, if the kernel has it, does delay, jitter, loss and rate, on the egress of both ends.
netem reorders when its jitter is larger than the gap between two packets, except with a `rate`,
when each packet's time counts from that of the one before it: so there is always a rate here, if
need be one too high to have any effect.

Without netem, loss is a BPF filter and rate is a token bucket, for both directions at one end of
the link: what leaves there is filtered and queued at the egress; what arrives is filtered at the
ingress and led through an ifb that has the same queue.  (delay_line.py adds the delay.)

A queue in front of a rate holds `QUEUE_MS` at that rate; what exceeds it is dropped (tail drop).
"""

from topologies.spec import LinkSpec

QUEUE_MS = 50
FRAME_BYTES = 1514

_UNNOTICED_MBIT = 100_000
_PACKETS_PER_MS = 200  # more than this kind of machine forwards
_LEAST_FRAMES = 30

_HOOKS = ("egress", "ingress")
_DISTURBANCE, _LOSS, _RATE = 1, 2, 3
"""The order in which a link's filters are applied (tc's `pref`)."""
_ACCEPT, _NEXT_FILTER = 0, 0xFFFFFFFF  # TC_ACT_OK, TC_ACT_UNSPEC


def netem(spec: LinkSpec) -> str:
    """Return the netem qdisc for a link; packets that wait for their delay count into `limit`."""
    held_ms = spec.delay_ms + spec.jitter_ms + QUEUE_MS
    if spec.rate_mbit is None:
        packets = round(held_ms * _PACKETS_PER_MS)
    else:
        packets = round(spec.rate_mbit * 1000 * held_ms / (8 * FRAME_BYTES))
    words = [
        f"netem limit {max(packets, _LEAST_FRAMES)}",
        f"delay {spec.delay_ms:f}ms {spec.jitter_ms:f}ms",
        *([f"loss {spec.loss_pct:f}%"] if spec.loss_pct else []),
        f"rate {_kbit(spec.rate_mbit or _UNNOTICED_MBIT)}",
    ]
    return " ".join(words)


def token_bucket(rate_mbit: float) -> str:
    """Return the qdisc for a rate without netem."""
    bytes_per_ms = rate_mbit * 1000 / 8
    burst = round(max(3 * FRAME_BYTES, 2 * bytes_per_ms))
    limit = round(max(_LEAST_FRAMES * FRAME_BYTES, QUEUE_MS * bytes_per_ms))
    return f"tbf rate {_kbit(rate_mbit)} burst {burst} limit {limit}"


def loss_program(loss_pct: float, otherwise: int) -> str:
    """Return a classic BPF program that drops that share of packets and answers `otherwise` for the
    rest.

    It loads a random 32-bit number (SKF_AD_OFF + SKF_AD_RANDOM) and answers TC_ACT_SHOT if that is
    below the threshold.
    """
    threshold = min(round(loss_pct / 100 * 2**32), 2**32 - 1)
    return f"4,32 0 0 4294963256,53 1 0 {threshold},6 0 0 2,6 0 0 {otherwise}"


def inbound_queue(interface: str) -> str:
    """Return the name of the ifb through which a rate-limited interface receives."""
    return interface.replace("to-", "q-", 1)


def impaired(interface: str, number: int, loss_pct: float) -> list[str]:
    """Return the `tc` commands that begin a disturbance while the link is in use.

    It loses packets of both directions, in addition to what the link does anyway.  `clsact` has to
    be there.
    """
    program = loss_program(loss_pct, _NEXT_FILTER)
    return [
        f"filter add dev {interface} {hook} pref {_DISTURBANCE} handle {number} "
        f'protocol all bpf da bytecode "{program}"'
        for hook in _HOOKS
    ]


def repaired(interface: str, number: int) -> list[str]:
    """Return the `tc` commands that end the disturbance of that number."""
    return [
        f"filter del dev {interface} {hook} pref {_DISTURBANCE} handle {number} protocol all bpf"
        for hook in _HOOKS
    ]


def both_directions(interface: str, spec: LinkSpec) -> list[str]:
    """Return the `tc` commands for loss and rate at one end of a link, without netem.

    `clsact` has to be there; with a rate, the ifb named by `inbound_queue`, too.
    """
    commands = []
    if spec.loss_pct:
        for hook, otherwise in zip(_HOOKS, (_ACCEPT, _NEXT_FILTER), strict=True):
            program = loss_program(spec.loss_pct, otherwise)
            commands.append(
                f"filter add dev {interface} {hook} pref {_LOSS} "
                f'protocol all bpf da bytecode "{program}"'
            )
    if spec.rate_mbit:
        queue = token_bucket(spec.rate_mbit)
        commands += [
            f"filter add dev {interface} ingress pref {_RATE} protocol all "
            f"u32 match u32 0 0 action mirred egress redirect dev {inbound_queue(interface)}",
            f"qdisc add dev {interface} root {queue}",
            f"qdisc add dev {inbound_queue(interface)} root {queue}",
        ]
    return commands


def _kbit(rate_mbit: float) -> str:
    return f"{max(rate_mbit * 1000, 1):.0f}kbit"
