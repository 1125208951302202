"""What a mask depends on: seeds, offsets, shapes, and the checks of arguments."""
