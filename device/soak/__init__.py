"""Trouble on purpose, for as long as one likes: each module is a trial that prints its figures.

    python -m device.soak.broker_kills --kills 1000
    python -m device.soak.process_kills --kills 200
    python -m device.soak.day_without_broker
    python -m device.soak.faults
    python -m device.soak.throughput
    python -m device.soak.card_wear MIDI...

Each needs mosquitto, but for the last, and ends with exit code 1 where it found a fault. The tests
run the same trials, shorter.
"""
