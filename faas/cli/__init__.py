"""The `faas` command. Only click is imported before a command is chosen."""
