"""Runs a client of a guest's service in a VM and reads what it has written."""

from experiments.workloads import Stage
from experiments.workloads._noting import NotingProcess
from experiments.workloads.counting import exchange


class CountingClient(NotingProcess):
    """One client and its process; `flow` is its name in the results."""

    def __init__(
        self, flow: str, number: int, address: str, rate_rps: float, stage: Stage, vm: str
    ) -> None:
        super().__init__(
            flow,
            "experiments.workloads.counting.client",
            ["--client", str(number), "--address", address, "--rate-rps", f"{rate_rps:g}"],
            stage,
            vm,
            stage.directory / f"{vm}-{number}.service",
        )

    def collect(self) -> list[tuple[object, ...]]:
        """Return its lines of service.csv."""
        made = exchange.exchanges(self.noted())
        if all(each.answered_ns is None for each in made):
            self.problems.append(f"no request of {self.flow} was answered")
        return exchange.rows(self.flow, made)
