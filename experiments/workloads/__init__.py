"""Traffic beside the probes: TCP by iperf3, and the requests of a diskless client."""


class WorkloadError(Exception):
    """The workload did not run; the message says what its program said."""
