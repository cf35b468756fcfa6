// The live piano roll: what was played rises from the keys, as a ribbon as long as the note.

import { HIGHEST, LOWEST, WHITE_KEYS, isBlack, place } from './keys.js';

const SECONDS_HIGH = 6;
const LEAST_RIBBON_PX = 6;

/** Draws a `Picture` on a canvas that ends where the keyboard begins. */
export class Roll {
  #context;
  #colours = {};

  constructor(canvas) {
    this.canvas = canvas;
    this.#context = canvas.getContext('2d');
    new ResizeObserver(() => this.#fit()).observe(canvas);
    this.#fit();
  }

  /** The page's colours changed. */
  paint() {
    const style = getComputedStyle(this.canvas);
    for (const name of ['note', 'guess', 'wrong', 'line', 'bar', 'quiet', 'octave']) {
      this.#colours[name] = style.getPropertyValue(`--${name}`).trim();
    }
    this.#font = `500 12px ${style.fontFamily}`;
  }

  #font = '12px sans-serif';

  #fit() {
    const ratio = Math.min(window.devicePixelRatio || 1, 2);
    const { clientWidth, clientHeight } = this.canvas;
    this.canvas.width = Math.round(clientWidth * ratio);
    this.canvas.height = Math.round(clientHeight * ratio);
    this.#context.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.paint();
  }

  /** One frame: the roll as it is at second `now_s` of the stream. */
  draw(picture, now_s) {
    const context = this.#context;
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const unit = width / WHITE_KEYS;
    const y = (t_s) => height - ((now_s - t_s) * height) / SECONDS_HIGH;
    context.clearRect(0, 0, width, height);
    this.#octaves(unit, height);
    if (now_s === null) return;
    this.#barLines(picture.bars, y, width);
    for (const note of picture.notes.values()) {
      const bottom = y(note.state === 'ended' ? note.offset_s : now_s);
      if (bottom > -LEAST_RIBBON_PX) this.#ribbon(note, unit, y(note.onset_s), bottom);
    }
    context.globalAlpha = 1;
  }

  #octaves(unit, height) {
    const context = this.#context;
    context.fillStyle = this.#colours.octave;
    for (let pitch = LOWEST; pitch <= HIGHEST; pitch += 1) {
      if (pitch % 12 === 0) context.fillRect(Math.round(place(pitch).left * unit), 0, 1, height);
    }
  }

  #barLines(bars, y, width) {
    const context = this.#context;
    context.font = this.#font;
    for (const { bar, t_s } of bars) {
      const at = Math.round(y(t_s));
      if (at < -20) continue;
      context.fillStyle = this.#colours.bar;
      context.fillRect(0, at, width, 1);
      context.fillStyle = this.#colours.quiet;
      context.fillText(String(bar), 10, at - 6);
    }
  }

  #ribbon(note, unit, top, bottom) {
    const context = this.#context;
    const { left, width } = place(note.pitch_midi);
    const gap = isBlack(note.pitch_midi) ? 0 : Math.min(1.5, unit * 0.12);
    const high = Math.max(bottom - top, LEAST_RIBBON_PX);
    const guess = note.state === 'provisional';
    context.fillStyle = this.#colours[note.wrong ? 'wrong' : guess ? 'guess' : 'note'];
    context.globalAlpha = guess ? 0.7 : 0.45 + 0.55 * (note.velocity / 127);
    context.beginPath();
    context.roundRect(left * unit + gap, bottom - high, width * unit - 2 * gap, high, Math.min(5, unit / 2.5));
    context.fill();
  }
}
