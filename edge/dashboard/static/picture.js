// What is known of the piano, message by message: the dashboard draws this and nothing else.
// Times in `_s` are seconds of the stream, times in `_ms` milliseconds of `performance.now()`.

import { keyName } from './keys.js';

const REMEMBERED_S = 30;
const LAG_WINDOW_MS = 30000;
const EVENTS_KEPT = 20;
const NUMBERS_KEPT = 500;

/** Topics on which a message that came before would be taken for another. */
const COUNTED = ['feedback', 'event'];

/** A wrong note is told about the moment at which it was struck; an onset is moved by less. */
const SAME_NOTE_S = 0.08;

/**
 * The stream's clock as this browser sees it.
 *
 * A message is late by its way through the network and never early, so the least lag of the last
 * half minute is the nearest to the truth; what the broker had kept tells nothing.
 */
export class StreamClock {
  #lags = [];
  #start = null;
  #guessed = null;

  /** A message made at `mono_ms` of the device came at `arrived_ms` of this browser. */
  hear(mono_ms, arrived_ms) {
    const lag = arrived_ms - mono_ms;
    this.#lags = this.#lags.filter((each) => arrived_ms - each.at < LAG_WINDOW_MS && each.lag < lag);
    this.#lags.push({ lag, at: arrived_ms });
  }

  /** `session` says when the stream began. */
  began(stream_start_mono_ms) {
    this.#start = stream_start_mono_ms;
  }

  /** Before it does: by `heard_s` of a message the stream began at the latest then. */
  heardSoFar(heard_s, mono_ms) {
    const began = mono_ms - 1000 * heard_s;
    this.#guessed = this.#guessed === null ? began : Math.min(this.#guessed, began);
  }

  /** Second of the stream at `now_ms`; null while it cannot be told. */
  at(now_ms) {
    const start = this.#start ?? this.#guessed;
    if (start === null || this.#lags.length === 0) return null;
    return (now_ms - this.#lags[0].lag - start) / 1000;
  }
}

/** Everything that messages said; `take` returns which part of it changed. */
export class Picture {
  constructor() {
    this.available = null;
    this.#forget();
    this.info = null;
    this.health = null;
    this.self_test = null;
    this.piece = null;
    this.events = [];
  }

  #seen = new Set();

  /** Whether this very message came before: at QoS 1 it does when its acknowledgement was lost. */
  #isRepeat(name, { boot, seq }) {
    const number = `${name}/${boot}/${seq}`;
    if (this.#seen.has(number)) return true;
    this.#seen.add(number);
    if (this.#seen.size > NUMBERS_KEPT) this.#seen.delete(this.#seen.values().next().value);
    return false;
  }

  #forget() {
    this.boot = null;
    this.clock = new StreamClock();
    this.notes = new Map();
    this.strike_s = null;
    this.pedal = false;
    this.position = null;
    this.bars = [];
    this.session = null;
    this.practice = new Map();
    this.practised = null;
  }

  /** One message: its name below the device's root, its document, its arrival. */
  take(name, document, { retain, arrived_ms }) {
    if (name === 'availability') {
      this.available = document === 'online';
      if (!this.available) this.#letGo();
      return name;
    }
    if (COUNTED.includes(name) && this.#isRepeat(name, document)) return null;
    if (document.historical) return name === 'event' ? this.#event(document) : null;
    if (!retain) this.#witness(document, arrived_ms);
    switch (name) {
      case 'notes': return this.#play(document);
      case 'position': return this.#move(document);
      case 'piece': return this.#name(document);
      case 'session': return this.#sit(document);
      case 'feedback': return this.#correct(document);
      case 'event': return this.#event(document);
      case 'info':
      case 'health':
      case 'self_test':
        this[name] = document;
        return name;
      default: return null;
    }
  }

  /** Notes that sound, lowest first. */
  get sounding() {
    const now = [...this.notes.values()].filter((note) => note.state !== 'ended');
    return now.sort((a, b) => a.pitch_midi - b.pitch_midi);
  }

  /** Where the player is at second `now_s`, carried on in tempo; null while that is unknown. */
  placeAt(now_s) {
    const at = this.position;
    if (at === null || at.lost) return null;
    const until = Math.min(now_s ?? at.t_s, at.until_s ?? at.t_s);
    const gone = at.tempo_bpm ? (at.tempo_bpm / 60) * Math.max(0, until - at.t_s) : 0;
    const beat = at.beat + gone;
    const beats = at.beats_in_bar;
    if (beats && beat >= beats + 1) return { bar: at.bar + 1, beat: Math.min(beat - beats, beats + 0.99) };
    return { bar: at.bar, beat };
  }

  /** Forgets what has long scrolled away. */
  tidy(now_s) {
    for (const [id, note] of this.notes) {
      if (note.state === 'ended' && note.offset_s < now_s - REMEMBERED_S) this.notes.delete(id);
      else if (note.onset_s < now_s - 4 * REMEMBERED_S) this.notes.delete(id);
    }
    this.bars = this.bars.filter((bar) => bar.t_s > now_s - REMEMBERED_S);
  }

  #witness(document, arrived_ms) {
    if (document.boot !== this.boot) {
      this.#forget();
      this.boot = document.boot;
    }
    this.clock.hear(document.mono_ms, arrived_ms);
  }

  #letGo() {
    for (const note of this.notes.values()) {
      if (note.state !== 'ended') Object.assign(note, { state: 'ended', offset_s: note.onset_s });
    }
    this.position = null;
  }

  #play(document) {
    if (document.heard_s !== null) this.clock.heardSoFar(document.heard_s, document.mono_ms);
    for (const step of document.notes) {
      if (step.state === 'withdrawn') this.notes.delete(step.id);
      else this.notes.set(step.id, { ...this.notes.get(step.id), ...step });
    }
    if (document.strikes.length) this.strike_s = document.strikes.at(-1).t_s;
    if (document.pedal.length) this.pedal = document.pedal.at(-1).down;
    return 'notes';
  }

  #move(document) {
    const before = this.position;
    this.position = document;
    if (!document.lost && document.tempo_bpm && (before?.bar !== document.bar || before.lost)) {
      const began_s = document.t_s - ((document.beat - 1) * 60) / document.tempo_bpm;
      this.bars.push({ bar: document.bar, t_s: began_s });
    }
    return before?.bar === document.bar && before.lost === document.lost ? null : 'position';
  }

  #name(document) {
    if (document.state === 'searching') this.position = null;
    this.piece = document;
    return 'piece';
  }

  #sit(document) {
    this.session = document;
    if (document.stream_start_mono_ms !== null) this.clock.began(document.stream_start_mono_ms);
    return 'session';
  }

  /** What is collected of a bar the last time it was played: `{take, faults, sum}`. */
  #passOf({ piece_id, bar, take }) {
    if (this.practised !== piece_id) {
      this.practised = piece_id;
      this.practice = new Map();
    }
    const before = this.practice.get(bar);
    if (before?.take === take && before.sum === null) return before;
    const pass = { take, faults: [], sum: null };
    this.practice.set(bar, pass);
    return pass;
  }

  #correct(document) {
    const pass = this.#passOf(document);
    if (document.kind === 'bar') {
      pass.sum = document;
      return 'feedback';
    }
    pass.faults.push(document);
    if (document.kind === 'wrong_note') {
      for (const note of this.notes.values()) {
        const same = note.pitch_midi === document.played_pitch_midi;
        if (same && Math.abs(note.onset_s - document.t_s) < SAME_NOTE_S) note.wrong = true;
      }
    }
    return 'feedback';
  }

  #event(document) {
    this.events.unshift(document);
    this.events.length = Math.min(this.events.length, EVENTS_KEPT);
    return 'event';
  }
}

/** One thing that went wrong, in a sentence. */
export function inWords({ kind, hand, expected_pitch_midi, played_pitch_midi, delta_ms, beat }) {
  const where = beat === null ? '' : `, beat ${Math.floor(beat)}`;
  const whose = hand === null ? '' : `, ${hand} hand`;
  const expected = expected_pitch_midi === null ? null : keyName(expected_pitch_midi);
  const played = played_pitch_midi === null ? null : keyName(played_pitch_midi);
  const by = delta_ms === null ? '' : ` by ${Math.abs(Math.round(delta_ms))} ms`;
  const what = {
    wrong_note: expected === null ? `${played} is not written` : `${played} in place of ${expected}`,
    missed: `${expected} is missing`,
    early: `${played ?? expected} early${by}`,
    late: `${played ?? expected} late${by}`,
  }[kind];
  return `${what ?? kind}${where}${whose}`;
}
