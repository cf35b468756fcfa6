// The dashboard: asks the device where its broker is, listens there, and draws what it hears.

import { Keyboard, inWords as soundInWords } from './keyboard.js';
import { Mqtt } from './mqtt.js';
import { Picture } from './picture.js';
import { Roll } from './roll.js';
import { Asker } from './asker.js';
import { byId } from './dom.js';
import { showEar, showHistory, showInfo, showHealth, showEvents, showPiece, showPlace, showPractice, showSelfTest } from './pages.js';
import { settingsPage } from './settings.js';

const TOPICS = ['availability', 'info', 'health', 'notes', 'piece', 'position', 'session', 'feedback', 'event', 'self_test', 'rsp/+'];

/** How often a screen reader's picture of the sound may change. */
const WORDS_MS = 500;

/** What a broker has kept is here by then. */
const RETAINED_MS = 2000;

/** A piano's ear that was asked to restart is back by then, on the smallest board too. */
const RESTART_MS = 90000;

/** A full self-test is over by then: the device gives itself three minutes. */
const FULL_TEST_MS = 200000;

const picture = new Picture();
const roll = new Roll(byId('roll'));
const keyboard = new Keyboard(byId('keyboard'));
addEventListener('themechange', () => roll.paint());

/** Whoever asked the system for less motion gets the roll in steps. */
const calm = matchMedia('(prefers-reduced-motion: reduce)');
const CALM_MS = 1000;
let drawn_ms = 0;

let link = { state: 'connecting', why: '' };
let asker = null;

/** The full self-test, as far as this page asked for one: under way, and why it was not made. */
const testing = { now: false, why: '' };

/** Each part of the page, drawn when something of it changed: with the next frame, the keys at once. */
const parts = {
  ear: () => showEar(picture, link, asker !== null),
  piece: () => showPiece(picture, link),
  keyboard: () => keyboard.show(picture.sounding),
  practice: () => showPractice(picture),
  piano: () => {
    showHealth(picture);
    showSelfTest(picture, testing);
    showInfo(picture);
    showEvents(picture);
  },
};
const TOUCHES = {
  link: ['ear', 'piece', 'piano'],
  availability: ['ear', 'piece', 'keyboard', 'piano'],
  health: ['ear', 'piano'],
  info: ['piano'],
  self_test: ['piano'],
  event: ['piano'],
  notes: ['keyboard', 'piece'],
  piece: ['piece', 'practice'],
  position: ['practice'],
  feedback: ['practice'],
  session: ['piece'],
};
const stale = new Set(Object.keys(parts));
const touch = (what) => TOUCHES[what]?.forEach((part) => stale.add(part));

function draw(part) {
  stale.delete(part);
  parts[part]();
}

function frame(now_ms) {
  for (const part of stale) draw(part);
  const now_s = picture.clock.at(now_ms);
  if (!byId('page-now').hidden) {
    if (!calm.matches || now_ms - drawn_ms > CALM_MS) {
      roll.draw(picture, now_s);
      drawn_ms = now_ms;
    }
    showPlace(picture, now_s);
    byId('pedal').classList.toggle('down', picture.pedal);
  }
  const since = now_s === null || picture.strike_s === null ? 1 : now_s - picture.strike_s;
  byId('ear-dot').style.setProperty('--strike', Math.max(0, 1 - 2 * since).toFixed(2));
  if (now_s !== null) picture.tidy(now_s);
  requestAnimationFrame(frame);
}

setInterval(() => {
  const words = soundInWords(picture.sounding);
  if (byId('sounding').textContent !== words) byId('sounding').textContent = words;
}, WORDS_MS);

/** The device's answer to where its broker is; for ever, because it may be starting. */
async function whereabouts() {
  for (;;) {
    try {
      const answer = await fetch('api/where');
      if (answer.status === 401) return null;
      if (answer.ok) return await answer.json();
    } catch {
      // Nobody there: ask again.
    }
    link = { state: 'closed', why: 'The device does not answer; it is tried again until it does.' };
    touch('link');
    await new Promise((wake) => setTimeout(wake, 2000));
  }
}

/** Nothing was kept at the broker: no such piano was there yet. */
function missing() {
  picture.available ??= false;
  touch('availability');
}

async function begin() {
  const where = await whereabouts();
  if (where === null) {
    link = { state: 'refused', why: 'looking needs the device’s password: open the settings' };
    touch('link');
    location.hash = '#settings';
    return;
  }
  document.title = `${where.device} · Sostenuto`;
  byId('device').textContent = where.device;
  if (where.url === null) {
    link = { state: 'refused', why: where.why };
    touch('link');
    return;
  }
  const root = `sostenuto/v1/${where.device}/`;
  const url = new URL(where.url, location.href);
  url.protocol = url.protocol.replace('http', 'ws');
  const mqtt = new Mqtt({
    url: url.href,
    username: where.username,
    password: where.password,
    topics: TOPICS.map((name) => [root + name, 0]),
    onState: (state, why) => {
      link = { state, why };
      touch('link');
      if (state === 'open') setTimeout(missing, RETAINED_MS);
    },
    onMessage: ({ topic, payload, retain }) => {
      const name = topic.slice(root.length);
      let document;
      try {
        document = name === 'availability' ? payload : JSON.parse(payload);
      } catch {
        return; // Not of this contract.
      }
      if (name.startsWith('rsp/')) {
        asker.answered(document);
        return;
      }
      const changed = picture.take(name, document, { retain, arrived_ms: performance.now() });
      touch(changed);
      if (changed === 'notes') draw('keyboard'); // in the next frame, not the one after
      const isBack = changed === 'availability' && picture.available;
      if (isBack || changed === 'session') askForHistory();
    },
  });
  asker = new Asker((name, body) => mqtt.publish(`${root}cmd/${name}`, JSON.stringify(body)));
  mqtt.open();
}

/** While somebody looks at it: when the page is opened, and when the record has grown. */
async function askForHistory() {
  if (asker !== null && !byId('page-history').hidden) showHistory(await asker.ask('history', { what: 'sessions', limit: 50 }));
}

byId('ear-switch').addEventListener('click', async () => {
  const button = byId('ear-switch');
  const wanted = button.getAttribute('aria-checked') !== 'true';
  button.disabled = true;
  const answer = await asker.ask('listen', wanted);
  if (answer.status === 'ok' && picture.health) {
    picture.health = { ...picture.health, listening: answer.data.listening };
    link = { ...link, why: '' };
  } else {
    link = { ...link, why: answer.error };
  }
  touch('link');
});

byId('test-full').addEventListener('click', async () => {
  Object.assign(testing, { now: true, why: '' });
  touch('self_test');
  const answer = await asker?.ask('self_test', 'full', FULL_TEST_MS);
  const why = answer ? answer.error : 'there is no way to the piano now';
  Object.assign(testing, { now: false, why: why ?? '' });
  touch('self_test');
});

/** Asks for a restart, and waits for the new start's own word. */
async function restart() {
  const before = picture.info?.boot;
  const answer = await asker?.ask('restart', null);
  if (answer?.status !== 'ok') return { error: answer?.error ?? 'there is no way to the piano now' };
  const until = performance.now() + RESTART_MS;
  const isBack = () => picture.available && picture.info !== null && picture.info.boot !== before;
  while (!isBack() && performance.now() < until) await new Promise((wake) => setTimeout(wake, 250));
  return { back: isBack() };
}

/** Pages are sections; the address says which. */
function turn() {
  const page = byId(`page-${location.hash.slice(1)}`) ?? byId('page-now');
  document.querySelectorAll('.page').forEach((each) => { each.hidden = each !== page; });
  document.querySelectorAll('nav a').forEach((each) => {
    if (`page-${each.hash.slice(1)}` === page.id) each.setAttribute('aria-current', 'page');
    else each.removeAttribute('aria-current');
  });
  askForHistory();
}
addEventListener('hashchange', () => {
  turn();
  byId('main').focus({ preventScroll: true });
  scrollTo(0, 0);
});

turn();
settingsPage({ restart, opened: () => asker === null && begin() });
requestAnimationFrame(frame);
begin();
if ('serviceWorker' in navigator && isSecureContext) navigator.serviceWorker.register('sw.js');
