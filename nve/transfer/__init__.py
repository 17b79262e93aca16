"""The transfer of a VM's state: memory and disk, over TCP, from its server to another (section 6).

    convergence   when to send another round, throttle, or suspend the VM        pure
    model         what a simple model expects of that                            pure
    framing       the messages on the wire, and which may follow which           pure
    sender        at the source: rounds while the VM runs, the rest after that   a process
    receiver      at the destination: puts pages where they belong               a process
    state         memory and disk as one row of pages, and their digests
    connection    a TCP connection that carries messages

The sender opens the connection (R6.2).  Each page that arrives is read again where it was put, and
its digest noted; after the move both sides report their digests, which have to be the same (R6.4).
"""
