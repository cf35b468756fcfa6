"""Trouble on purpose, for as long as one likes: each module is a trial that prints its figures.

    python -m device.soak.broker_kills --kills 1000
    python -m device.soak.process_kills --kills 200
    python -m device.soak.day_without_broker
    python -m device.soak.faults
    python -m device.soak.throughput
    python -m device.soak.card_wear MIDI...
    python -m device.soak.service_life                         # as root
    python -m device.soak.update_life                          # as root
    python -m device.soak.cable_alone --minutes 3              # as root
    python -m device.soak.update_cuts --kills 200
    python -m device.soak.same_notes_on_arm                    # as root
    python -m device.soak.boot_generic IMAGE.img.xz
    python -m device.soak.power_cuts IMAGE.img.xz --kills 50

Most need mosquitto, those of updates rauc too; what else one needs, its first lines say, for the
emulated board docs/image.md. Each ends with exit code 1 where it found a fault. The tests run the
first six and `update_cuts`, shorter, and of the others what needs no machine of its own.
"""
