"""The network virtualization authority: its decisions (pure) and its Ryu application."""
