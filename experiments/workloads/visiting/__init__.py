"""Clients that connect to a task again when they have lost it: the programs and their lines."""
