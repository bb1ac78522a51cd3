"""After a failed comparison: which layer is the first to differ (layers), and which mistake explains it (mistakes)."""
