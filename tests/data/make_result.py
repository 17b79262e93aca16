"""Writes the small result of the current schema version that tests read: tests/data/result-v<n>.

Run once when a schema version is new: `python -m tests.data.make_result`.  Results of older
versions stay as they are: that they can still be read and plotted is what they are for.
"""

import shutil
from pathlib import Path

from experiments.measure.results import SCHEMA_VERSION
from tests.helpers.synthetic import write_result

RATE_PPS = 50


def main() -> None:
    out = Path(__file__).parent / f"result-v{SCHEMA_VERSION}"
    shutil.rmtree(out, ignore_errors=True)
    print(write_result(out, RATE_PPS))


if __name__ == "__main__":
    main()
