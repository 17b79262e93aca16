"""Sends an attack's frames, run inside a VM or on a node of the underlay.

    python -m experiments.workloads.forging.forger --interface eth0 --rate 50 --seconds 10

It reads the frames from its standard input, in hexadecimal, a line each, and sends them unchanged
in turn, over and over.  It reports when it begins, and when it has ended and how many it has sent
by then; times are in ns since the epoch.
"""

import argparse
import itertools
import socket
import sys
import time

from experiments.probes.process import StopFlag, say

_LONGEST_SLEEP_S = 0.1


def send(interface: str, frames: list[bytes], rate_pps: float, seconds: float) -> int:
    """Send for that time, or until told to stop; return how many frames were sent.

    It makes up for what it could not send in time: bursts do not matter for an attack.
    """
    stop, sent = StopFlag(), 0
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as raw:
        raw.bind((interface, 0))
        began_s = time.monotonic()
        for frame in itertools.cycle(frames):
            due_s = began_s + sent / rate_pps
            while (wait_s := due_s - time.monotonic()) > 0 and not stop:
                time.sleep(min(wait_s, _LONGEST_SLEEP_S))
            if stop or time.monotonic() - began_s >= seconds:
                return sent
            raw.send(frame)
            sent += 1
    return sent


def main() -> None:
    parser = argparse.ArgumentParser(description="Send frames as they are.")
    parser.add_argument("--interface", required=True)
    parser.add_argument("--rate", type=float, required=True, help="frames per second")
    parser.add_argument("--seconds", type=float, required=True)
    arguments = parser.parse_args()
    say(ready=True)
    frames = [bytes.fromhex(line) for line in sys.stdin]
    say(began_ns=time.time_ns())
    sent = send(arguments.interface, frames, arguments.rate, arguments.seconds)
    say(ended_ns=time.time_ns(), sent=sent)


if __name__ == "__main__":
    main()
