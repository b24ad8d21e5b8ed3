"""What a run has learned, put to use: everything here starts from a finished run's directory."""
