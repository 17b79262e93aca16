"""A task that moves from one host to another while its peers stay connected (draft, section 4.2).

A task is a process with an address of its own, which is not its host's.

    tcp_states      how a connection in each state is treated; pure
    checkpoint      a task that has been packaged: its state and its connections; pure
    repair          takes a connection out of the kernel, and puts it into another (TCP_REPAIR)
    initial_window  lets a connection begin with the congestion window that it had
    addresses       gives an address to a host, takes it away, announces it
    arrivals        when peers are heard of at the new host, and when all is as fast as before
    old_stack       what the host that a task has left does with packets that still come for it
    program         what a program has to have in order to move, and which programs there are
    process         runs a program on a host, and moves it
    programs/       programs that can move, one file each

`experiments.run.task_steps` has the steps of a move; a process is told each by a line.
"""
