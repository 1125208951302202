"""Dropout measured against native torch and against a copy: what `fastdrop bench` runs."""
