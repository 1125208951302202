"""Dropout that stays active at inference."""
