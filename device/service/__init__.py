"""The service that listens: its unit, and all that has to be on a system for it to run."""
