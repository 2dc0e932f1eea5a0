"""The audit: what a run was made of, written down at its start, and compared with what is there now."""
