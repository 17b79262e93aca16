"""A client that downloads from a task that is an HTTP server: the program and its lines."""
