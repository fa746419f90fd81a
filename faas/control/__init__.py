"""What nodes decide and do about functions: the catalog, pushes, changes to records, secrets, tokens."""
