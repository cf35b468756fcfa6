// 88 keys as one drawing; a key has `data-lit`: "guess" while it is provisional, then "sure".

import { HIGHEST, LOWEST, WHITE_KEYS, isBlack, keyName, place } from './keys.js';

const SVG = 'http://www.w3.org/2000/svg';
const UNIT = 10;
const HIGH = 62;
const BLACK_HIGH = 39;

export class Keyboard {
  #keys = new Map();
  #lit = new Map();

  constructor(svg) {
    svg.setAttribute('viewBox', `0 0 ${WHITE_KEYS * UNIT} ${HIGH}`);
    const pitches = Array.from({ length: HIGHEST - LOWEST + 1 }, (_, index) => LOWEST + index);
    for (const pitch of [...pitches].sort((a, b) => isBlack(a) - isBlack(b))) {
      svg.append(this.#key(pitch));
    }
  }

  #key(pitch) {
    const { left, width } = place(pitch);
    const black = isBlack(pitch);
    const key = document.createElementNS(SVG, 'rect');
    const edge = black ? 0 : 0.35;
    const attributes = {
      x: left * UNIT + edge,
      y: -2,
      width: width * UNIT - 2 * edge,
      height: (black ? BLACK_HIGH : HIGH) + 2,
      rx: 1.4,
      class: black ? 'black' : 'white',
      'data-pitch': pitch,
    };
    for (const [name, value] of Object.entries(attributes)) key.setAttribute(name, value);
    this.#keys.set(pitch, key);
    return key;
  }

  /** Lights what sounds. */
  show(sounding) {
    const lit = new Map();
    for (const note of sounding) {
      const sure = note.state === 'confirmed' || lit.get(note.pitch_midi) === 'sure';
      lit.set(note.pitch_midi, sure ? 'sure' : 'guess');
    }
    for (const [pitch, key] of this.#keys) {
      if (lit.get(pitch) === this.#lit.get(pitch)) continue;
      if (lit.has(pitch)) key.setAttribute('data-lit', lit.get(pitch));
      else key.removeAttribute('data-lit');
    }
    this.#lit = lit;
  }
}

/** What sounds, for those who do not see it. */
export const inWords = (sounding) =>
  sounding.length ? sounding.map((note) => keyName(note.pitch_midi)).join(' ') : 'silence';
