"""Dropout that stays on at inference."""
