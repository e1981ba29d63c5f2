"""Several trained systems as one."""
