"""Why a caller's request is not granted; nothing has changed then."""


class RequestRefused(Exception):
    """The request cannot be granted; the message says why and what would be possible."""


class Unknown(RequestRefused):
    """The request names a VM, an NVE or a move that there is not."""
