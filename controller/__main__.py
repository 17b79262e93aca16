"""`python -m controller SETTINGS.json`: the NVA process.

It listens for NVEs (OpenFlow 1.3) in the network namespace it is started in, and for the
orchestrator on a unix socket.  It says `ready` on its standard output once both are open.
"""

from controller.southbound import (
    framework,  # first: with Ryu, it has to patch everything imported after it
)

# isort: split

import logging
import sys
from pathlib import Path

from pydantic import ValidationError

from controller.app import NvaApplication
from controller.northbound.server import serve
from controller.nva import Nva
from controller.settings import Settings

ECHO_INTERVAL_S = 1.0
SWITCH_INTERVAL_S = 5e-4
"""How long one thread may keep the interpreter from another, in seconds: a suspended VM may be
waiting for an answer while another thread reads the reports of NVEs."""
UNREPLIED_ECHOES = 10
"""The number of unanswered echo requests that ends a connection."""


def main() -> None:
    """Run the NVA until it is killed."""
    if len(sys.argv) != 2:
        raise SystemExit("usage: python -m controller SETTINGS.json")
    try:
        settings = Settings.model_validate_json(Path(sys.argv[1]).read_text(encoding="utf-8"))
        nva = Nva(settings)
    except (OSError, ValidationError, ValueError) as error:
        raise SystemExit(f"{sys.argv[1]}: {error}") from None
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s")
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    NvaApplication.nva = nva
    configuration = framework.settings()
    configuration(args=[], project="vmmlab-nva")
    configuration.set_override("ofp_listen_host", str(settings.address))
    configuration.set_override("ofp_tcp_listen_port", settings.port)
    # A connection that has ended is reported only when its next echo is due.
    configuration.set_override("echo_request_interval", ECHO_INTERVAL_S)
    configuration.set_override("maximum_unreplied_echo_requests", UNREPLIED_ECHOES)
    framework.guard_connections(nva.admission)
    framework.send_at_once()
    framework.hub.spawn(serve(nva).serve_forever)
    print("ready", flush=True)
    framework.app_manager.AppManager.run_apps([framework.OPENFLOW_HANDLER, "controller.app"])


if __name__ == "__main__":
    main()
