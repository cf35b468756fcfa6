"""Trouble on purpose, for as long as one likes: each module is a trial that prints its figures.

    python -m device.soak.broker_kills --kills 1000
    python -m device.soak.process_kills --kills 200
    python -m device.soak.day_without_broker
    python -m device.soak.faults
    python -m device.soak.throughput
    python -m device.soak.card_wear MIDI...
    python -m device.soak.update_cuts --kills 200
    python -m device.soak.update_life
    python -m device.soak.power_cuts IMAGE.img.xz --kills 50

Most need mosquitto, the last two rauc, and `update_life` what `service_life` needs. Each ends with
exit code 1 where it found a fault. The tests run the same trials, shorter.
"""
