// What each page says, out of a `Picture`.

import { byId, element } from './dom.js';
import { inWords } from './picture.js';

const say = (id, text) => {
  const where = byId(id);
  if (where.textContent !== text) where.textContent = text;
};

const FAULTS = {
  lost: 'Microphone lost',
  recovering: 'Microphone is coming back',
  clipping: 'Listening, too loud',
};

/** Whether it listens: always in sight, in a word and a colour, with its switch. */
export function showEar({ available, health }, link) {
  const there = link.state === 'open' && available === true;
  const listening = there && health !== null && health.listening;
  const fault = listening ? FAULTS[health.audio] : null;
  let word = 'Connecting';
  if (link.state === 'open' && available !== null) word = 'Piano is away';
  else if (link.state === 'closed') word = 'No connection';
  else if (link.state === 'refused') word = 'Not connected';
  if (there && health !== null) word = fault ?? (listening ? 'Listening' : 'Not listening');
  say('ear-word', word);
  byId('ear-dot').dataset.ear = fault ? 'fault' : listening ? 'on' : 'off';
  const button = byId('ear-switch');
  button.setAttribute('aria-checked', String(listening));
  button.disabled = !there || health === null;
}

/** Title, composer, and a line on how sure that is. */
export function showPiece({ available, health, piece, notes }, link) {
  const known = piece !== null && piece.state !== 'searching';
  const there = link.state === 'open' && available === true;
  let title = 'Play something';
  let note = '';
  if (link.state !== 'open') {
    title = link.state === 'connecting' ? 'Looking for the piano' : 'No way to the piano';
    note = link.why;
  } else if (!there) {
    title = 'The piano’s ear is away';
    note = 'It will be here as soon as it is back.';
  } else if (health !== null && !health.listening) {
    title = 'Not listening';
    note = link.why || 'The microphone is given back; nothing is heard until you switch it on.';
  } else if (known) {
    title = piece.title;
    note = piece.state === 'lost' ? 'It was this one; what is played now is another thing.' : transposed(piece.transposition);
  } else if (notes.size > 0) {
    const [best] = piece?.candidates ?? [];
    title = 'Listening for the piece';
    note = best ? `perhaps ${best.title}` : '';
  }
  say('piece-title', title);
  say('piece-composer', known && title === piece.title ? asSpoken(piece.composer) : '');
  say('piece-note', note || link.why);
}

/** "Beethoven, Ludwig van" the way it is said. */
const asSpoken = (name) => name.split(', ').reverse().join(' ');

const transposed = (semitones) => {
  if (!semitones) return '';
  const many = Math.abs(semitones) === 1 ? 'a semitone' : `${Math.abs(semitones)} semitones`;
  return `${many} ${semitones > 0 ? 'higher' : 'lower'} than written`;
};

/** Bar, beat and tempo, carried on between two messages. */
export function showPlace(picture, now_s) {
  const { position, piece } = picture;
  const place = picture.placeAt(now_s);
  byId('place').hidden = place === null;
  const bars = piece?.bars ?? null;
  byId('progress').hidden = place === null || !bars;
  if (place === null) return;
  say('bar', String(place.bar));
  say('bars', bars ? `of ${bars}` : '');
  showBeats(Math.round(position.beats_in_bar ?? 0), Math.floor(place.beat));
  say('tempo', position.tempo_bpm ? String(Math.round(position.tempo_bpm)) : '–');
  say('tempo-share', position.tempo_ratio ? `${Math.round(100 * position.tempo_ratio)} %` : '');
  if (bars) {
    const way = Math.min(1, Math.max(0, place.bar / bars));
    byId('progress').setAttribute('aria-valuemax', String(bars));
    byId('progress').setAttribute('aria-valuenow', String(place.bar));
    byId('progress').firstElementChild.style.width = `${(100 * way).toFixed(1)}%`;
  }
}

function showBeats(beats, beat) {
  const dots = byId('beats');
  if (dots.childElementCount !== beats) {
    dots.replaceChildren(...Array.from({ length: beats }, () => element('i')));
  }
  dots.setAttribute('aria-label', `${beat} of ${beats}`);
  [...dots.children].forEach((dot, index) => dot.classList.toggle('on', index + 1 === beat));
}

let chosenBar = null;

/** A tile for each bar that was played, and what went wrong in the chosen one. */
export function showPractice(picture) {
  const { practice, piece } = picture;
  const bars = [...practice.keys()].sort((a, b) => a - b);
  const known = piece !== null && piece.state !== 'searching';
  say('practice-piece', known
    ? `${piece.title}. A tile is a bar as it was played last: how many of its notes were as written.`
    : 'As soon as the piece is known, its bars are collected here.');
  const tiles = byId('practice-bars');
  const before = new Map([...tiles.children].map((tile) => [Number(tile.dataset.bar), tile]));
  tiles.replaceChildren(...bars.map((bar) =>
    barTile(before.get(bar) ?? newTile(bar, picture), practice.get(bar), picture.position?.bar)));
  const chosen = practice.has(chosenBar);
  say('practice-bar', chosen ? `Bar ${chosenBar}` : 'What to look at');
  say('practice-sum', chosen ? barInWords(practice.get(chosenBar).sum) : '');
  const faults = (chosen ? [chosenBar] : bars).flatMap((bar) => practice.get(bar).faults);
  const rows = faults.map((fault) => element('li', {},
    element('span', {}, inWords(fault)), element('small', {}, chosen ? '' : `bar ${fault.bar}`)));
  const nothing = bars.length ? 'Nothing went wrong here.' : 'Nothing yet.';
  byId('practice-list').replaceChildren(...(rows.length ? rows : [element('li', {}, nothing)]));
}

function barInWords(sum) {
  if (sum === null || !sum.asked) return '';
  const facts = [`${sum.right} of ${sum.asked} notes as written`];
  if (sum.tempo_bpm !== null) facts.push(`${Math.round(sum.tempo_bpm)} beats a minute`);
  if (sum.evenness_ms !== null) facts.push(`even within ${Math.round(sum.evenness_ms)} ms`);
  return facts.join(' · ');
}

function newTile(bar, picture) {
  const shown = element('span', { 'aria-hidden': 'true' }, String(bar), element('small'));
  const button = element('button', { type: 'button' }, shown, element('span', { class: 'unseen' }));
  button.addEventListener('click', () => {
    chosenBar = chosenBar === bar ? null : bar;
    showPractice(picture);
    byId('practice-bars').querySelector(`[data-bar="${bar}"] button`).focus();
  });
  return element('li', { 'data-bar': bar }, button);
}

function barTile(tile, { faults, sum }, here) {
  const button = tile.firstElementChild;
  const bar = Number(tile.dataset.bar);
  const judged = sum !== null && sum.asked > 0;
  const verdict = faults.length ? 'faulty' : judged ? 'clean' : 'unjudged';
  const words = judged ? `${sum.right} of ${sum.asked}` : faults.length ? String(faults.length) : '–';
  button.querySelector('small').textContent = words;
  button.lastElementChild.textContent = `Bar ${bar}, ${judged ? `${words} notes as written` : verdict}`;
  button.dataset.verdict = verdict;
  button.setAttribute('aria-pressed', String(bar === chosenBar));
  tile.toggleAttribute('data-here', bar === here);
  return tile;
}

const day = new Intl.DateTimeFormat(undefined, { weekday: 'short', day: 'numeric', month: 'short' });
const hour = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' });

const minutes = (number) => (number < 1 ? 'under a minute' : `${Math.round(number)} min`);

/** The past sittings, newest first; `answer` is what `history` said. */
export function showHistory(answer) {
  if (answer.status !== 'ok') {
    say('history-note', `No history: ${answer.error}`);
    byId('history-list').replaceChildren();
    return;
  }
  const { sessions, more } = answer.data;
  say('history-note', sessions.length
    ? `${more ? 'The latest ' : ''}${sessions.length} ${sessions.length === 1 ? 'sitting' : 'sittings'}, from the device’s own record.`
    : 'Nothing was recorded yet.');
  byId('history-list').replaceChildren(...[...sessions].reverse().map(sitting));
}

function sitting({ t, clock, minutes: long, notes, accuracy, pieces }) {
  const began = new Date(t);
  const about = clock === 'unsynced' ? 'about ' : '';
  const when = `${about}${day.format(began)}, ${hour.format(began)}`;
  const titles = [...new Set(pieces.map((piece) => piece.title))];
  const facts = [minutes(long), `${notes} notes`];
  if (accuracy !== null) facts.push(`${Math.round(100 * accuracy)} % as written`);
  return element('li', {},
    element('time', { datetime: t }, when),
    element('strong', {}, titles.join(', ') || 'No piece of the catalogue'),
    element('p', {}, facts.join(' · ')));
}

const AUDIO = {
  running: 'hearing', silent: 'silence', clipping: 'too loud', lost: 'microphone lost',
  recovering: 'coming back', off: 'switched off', midi: 'MIDI',
};
const GIB = 1024 ** 3;
const MIB = 1024 ** 2;

const span = (s) => {
  if (s < 3600) return [`${Math.floor(s / 60)}`, 'min'];
  return s < 48 * 3600 ? [(s / 3600).toFixed(1), 'h'] : [`${Math.floor(s / 86400)}`, 'days'];
};

/** How the device is, in figures; what is not known is left out. */
export function showHealth({ health, available }) {
  if (health === null) {
    say('piano-lead', 'Nothing was said about it yet.');
    return;
  }
  const at = new Date(health.t);
  say('piano-lead', available
    ? `As of ${hour.format(at)}. No sound is ever stored or sent: only notes leave the device.`
    : 'It is away; this is what it said last.');
  byId('attention').replaceChildren(...(health.attention ?? []).map((line) => element('li', {}, line)));
  const figures = [
    ['Sound', AUDIO[health.audio] ?? health.audio, ''],
    ['Level', health.level_dbfs?.toFixed(0), 'dBFS'],
    ['From key to message', health.end_to_end?.p50_ms.toFixed(0), 'ms, median'],
    ['Recognising a block', health.inference?.p95_ms.toFixed(1), 'ms, 95 of 100'],
    ['Processor', health.load === null ? undefined : Math.round(100 * health.load), '% of a core'],
    ['Temperature', health.temperature_c?.toFixed(0), '°C'],
    ['Memory', health.memory_bytes === null ? undefined : Math.round(health.memory_bytes / MIB), 'MiB'],
    ['Free on disk', health.disk_free_bytes === null ? undefined : (health.disk_free_bytes / GIB).toFixed(1), 'GiB'],
    ['Waiting to be sent', health.queue_messages, 'messages'],
    ['Dropped', health.messages_dropped, 'messages'],
    ['Sound lost', health.overruns, 'times'],
    ['Broker lost and found', health.reconnects, 'times'],
    ['Up for', ...span(health.uptime_s)],
  ];
  if (health.throttling?.length) figures.push(['Held back by', health.throttling.join(', ').replaceAll('_', ' '), '']);
  byId('health').replaceChildren(...figures
    .filter(([, value]) => value !== undefined && value !== null)
    .map(([name, value, unit]) => element('div', {},
      element('dt', {}, name),
      element('dd', {}, `${value} `, element('small', {}, unit)))));
}

/** What the last full self-test found: a row a check, and what to do. */
export function showSelfTest({ self_test: found }, { now, why }) {
  byId('test-full').disabled = now;
  let note = 'None was made yet.';
  if (found !== null) {
    const at = new Date(found.t);
    note = `${found.passed ? 'All is well' : 'Something has to be mended'}: ${day.format(at)}, ${hour.format(at)}.`;
  }
  if (why) note = `Not tested: ${why}`;
  if (now) note = 'The known recording is being heard, beside the listening; that takes up to three minutes.';
  say('test-note', note);
  byId('test-checks').tBodies[0].replaceChildren(...(found?.checks ?? []).map((check) => {
    const verdict = check.verdict ?? (check.passed ? 'passed' : 'failed');
    const remedy = check.remedy ? [element('small', {}, check.remedy)] : [];
    return element('tr', { 'data-verdict': verdict },
      element('td', {}, verdict.replaceAll('_', ' ')),
      element('th', { scope: 'row' }, check.name),
      element('td', {}, check.text, ...remedy));
  }));
}

/** What it is. */
export function showInfo({ info }) {
  if (info === null) return;
  const heard = info.audio_device;
  const facts = [
    ['Software', info.software],
    ['Listens to', heard && `${heard.name} (${heard.kind})`],
    ['Note model', info.models.map((model) => model.name).join(', ') || null],
    ['Catalogue', info.catalogue && `${info.catalogue.pieces} pieces, version ${info.catalogue.version}`],
    ['Board', info.board],
    ['System', info.system],
    ['Runtime', info.runtime],
  ];
  byId('info').replaceChildren(...facts
    .filter(([, value]) => value)
    .flatMap(([name, value]) => [element('dt', {}, name), element('dd', {}, value)]));
}

/** The latest events, newest first. */
export function showEvents({ events }) {
  const rows = events.map(({ text, kind, count, t }) => element('li', {},
    element('span', {}, text || kind.replaceAll('_', ' '), count > 1 ? ` (${count} times)` : ''),
    element('small', {}, hour.format(new Date(t)))));
  byId('events').replaceChildren(...(rows.length ? rows : [element('li', {}, 'Nothing since this page was opened.')]));
}
