"""The network virtualization edge: its pipeline (pure) and the parts of it that touch Linux."""
