"""What turns a bare board into a piano that listens, and the proofs that it goes on doing so."""
