"""The state of a VM on its way: memory and disk, over TCP, from its server to another (section 6).

    convergence   when to send another round, throttle, or stop the VM           pure
    model         what a simple model expects of that                            pure
    framing       what is on the wire, and who may say what when                 pure
    sender        at the source: rounds while the VM runs, the rest when not     a process
    receiver      at the destination: puts pages where they belong               a process
    state         memory and disk as one row of pages, and their digests
    connection    a TCP connection that carries messages

The sender opens the connection (R6.2).  Each page that arrives is read again where it was put, and
noted; after the move both sides say what they have, and that has to be the same (R6.4).
"""
