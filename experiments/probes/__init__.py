"""UDP probes: numbered packets at an even pace, one sender and one receiver process per VM.

`udp` says what is on the wire and who sends what to whom, `pacing` when each packet is due,
`accounting` what became of it; these three are pure.  `sender` and `receiver` are the programs that
run inside the VMs, `fleet` is how the runner drives them.
"""
