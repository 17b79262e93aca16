"""Clients of a task that come back when they have lost it: the programs and their lines."""
