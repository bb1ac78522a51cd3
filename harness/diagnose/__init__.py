"""After a failed comparison: the first layer that differs (layers), and the mistake that explains it (mistakes)."""
