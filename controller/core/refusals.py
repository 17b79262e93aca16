"""The reasons for which a caller's request is refused; a refused request changes nothing."""


class RequestRefused(Exception):
    """The request cannot be granted; the message says why and what would be possible."""


class Unknown(RequestRefused):
    """The request names a VM, an NVE or a move that does not exist."""
