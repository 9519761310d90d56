"""What needs no paired timing: bytes, memory, components, machine ceilings."""
