"""The command line: flags, terminal output, exit codes, and the start of jobs."""
