"""Use of trained networks. Everything here starts from the directory of a finished run."""
