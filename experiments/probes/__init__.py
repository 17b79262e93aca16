"""UDP probes: numbered packets at an even pace, one sender and one receiver process per VM.

`udp` defines the packets and the plan of the flows, `pacing` when each packet is due, `accounting`
the outcome of each packet; these three are pure.  `sender` and `receiver` are the programs that run
inside the VMs, `fleet` is how the runner drives them.
"""
