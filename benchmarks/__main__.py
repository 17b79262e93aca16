"""All benchmarks, one after the other: `make bench`."""

from benchmarks import bring_up, flood, nva, probe, run_as_command


def main() -> None:
    print("== bring-up")
    bring_up.measure(times=5)
    print("== probe, 5,000 packets/s for 20 s, without a move")
    probe.report(rate_pps=5000, seconds=20)
    print("== moves beside floods of 4,000 packets/s, with limits and without")
    flood.measure(moves=5, rate_pps=4000)
    print("== the NVA beside a bare loop of the same framework")
    nva.show(nva.measure(nva.SIZES))


if __name__ == "__main__":
    run_as_command(main)
