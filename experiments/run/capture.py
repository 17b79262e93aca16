"""Packet captures of a run (`--pcap`): everything that NVEs send and receive on the underlay."""

import subprocess
from functools import partial
from pathlib import Path

from nve.linux.wait import wait_until
from topologies.emulation.data_centre import DataCentre

READY_TIMEOUT_S = 10.0


class Captures:
    """One tcpdump for each NVE, writing `<NVE>.pcap`; capturing starts on construction."""

    def __init__(self, data_centre: DataCentre, directory: Path) -> None:
        directory.mkdir(parents=True)
        self._processes = []
        for name in data_centre.nves:
            interface = data_centre.fabric.uplink(name).interface
            file = directory / f"{name}.pcap"
            command = ["tcpdump", "-q", "-U", "-Z", "root", "-i", interface, "-w", str(file)]
            process = data_centre.in_node(
                name, command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            self._processes.append(process)
            # tcpdump writes the file's header once it listens.
            wait_until(partial(_missing, file), READY_TIMEOUT_S)

    def stop(self) -> None:
        """End the captures; what they have captured is in the files."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.wait()


def _missing(file: Path) -> str | None:
    return None if file.exists() and file.stat().st_size else f"nothing in {file} yet"
