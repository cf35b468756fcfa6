"""What this very board can carry: its speed, the delay that a player would notice, its warmth.

A figure from a PC says nothing about a Raspberry Pi in a cupboard. So every ear hears a recording
on the board itself, and the best of those that keep up goes on for a minute without a pause: a
board that gets too warm, or too little power, slows down only then.
"""
