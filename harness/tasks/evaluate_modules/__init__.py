"""Our own `evaluate` modules, one in each folder. They load by path and work offline."""
