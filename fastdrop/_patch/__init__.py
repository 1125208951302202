"""Torch's own dropouts replaced: its operators for the whole process, its modules in one model."""
