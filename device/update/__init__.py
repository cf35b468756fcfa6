"""How a piano that listens is changed without ever being left deaf.

Every bundle is RAUC's, signed; what is in it is one of four kinds. Note models and catalogue packs
are parcels, laid beside the old ones and put in force by a link once they have heard the known
recording rightly. Software and whole systems go live before they can prove themselves: they are on
trial until the ear has been seen ready and has heard that recording, and otherwise they go back.
"""
