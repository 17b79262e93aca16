"""A VM that has state: memory, a disk and a service, in pages that show when one is wrong.

    spec        what a guest does: memory, writes, disk, service                       pure
    pages       the content of a page, so that a stale, torn or misplaced one shows    pure
    writes      which page is written next                                             pure
    registers   what a guest has to remember to continue somewhere else                pure
    service     requests and replies of its service                                    pure
    dirty_log   which pages were written since the last call, shared with the guest
    process     the guest itself, a process in its VM
    machine     its memory, disk and process as its hypervisor holds them

A guest keeps everything it knows in its pages.  So a guest that is started elsewhere with the same
pages continues where the other one stopped.  Its kernel is the VM's network namespace, which moves
by itself, with what waits in its sockets.
"""
