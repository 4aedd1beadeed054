"""Published network families, one a file."""
