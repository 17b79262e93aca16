"""Traffic that loads the network beside the probes: TCP by iperf3."""
