"""How good Sostenuto is, how fast, how small, how soon: each figure beside its protocol."""
