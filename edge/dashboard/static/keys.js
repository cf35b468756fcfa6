// The keyboard's geometry and names: 88 keys, from A0 (MIDI 21) to C8 (MIDI 108).

export const LOWEST = 21;
export const HIGHEST = 108;
export const WHITE_KEYS = 52;

/** Width of a black key, in white keys; a piano's are 13.7 mm to 23.5 mm. */
export const BLACK_WIDTH = 0.6;

const STEPS = [0, 0.5, 1, 1.5, 2, 3, 3.5, 4, 4.5, 5, 5.5, 6];
/** How far a black key lies off the gap between its neighbours, in white keys. */
const SHIFT = { 1: -0.1, 3: 0.1, 6: -0.13, 8: 0, 10: 0.13 };
const NAMES = ['C', 'C♯', 'D', 'E♭', 'E', 'F', 'F♯', 'G', 'A♭', 'A', 'B♭', 'B'];

export const isBlack = (pitch) => pitch % 12 in SHIFT;

/** Left edge and width of a key, in white keys from the left end of the keyboard. */
export function place(pitch) {
  const step = pitch % 12;
  const left = Math.floor(pitch / 12) * 7 + STEPS[step] - 12;
  if (!isBlack(pitch)) return { left, width: 1 };
  return { left: left + 0.5 - BLACK_WIDTH / 2 + SHIFT[step] * BLACK_WIDTH, width: BLACK_WIDTH };
}

/** As musicians write it: 60 is C4. */
export const keyName = (pitch) => `${NAMES[pitch % 12]}${Math.floor(pitch / 12) - 1}`;
