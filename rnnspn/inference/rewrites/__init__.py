"""What becomes of a model's graph when it is loaded, so that it runs faster where it runs; it says the same.

Each module changes a model in place, and leaves alone what does not stand as exported files have it.
"""
