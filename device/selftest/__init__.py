"""Does it hear? A piano's ear looks at itself, each thing by a reading and a judgement of it.

A reading is what was measured; the judgement is a pure function of it, and its verdict is passed,
failed, or not tried where nothing could be measured (with the reason). What failed says what to do.
"""
