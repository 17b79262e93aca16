"""A client of a guest's service (`nve.guest.service`): the program, its driver, its lines."""
