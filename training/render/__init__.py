"""Rendered training sound: sampled pianos, played, mixed, put into rooms, and labelled.

The labels sit at the acoustic onset because the mixer itself places every sample: it is
known to the sample where each hammer lands. Everything is drawn from one random generator
per segment (`segment_rng`), so that a segment can be rendered again from its seed and index.
"""
