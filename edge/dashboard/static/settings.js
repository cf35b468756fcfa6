// The settings' page: behind the device's own password, which opens a session in a cookie that
// scripts cannot read. What is changed is sent as JSON, which no other site's form can send.

import { byId, element } from './dom.js';

const tell = (text) => { byId('settings-note').textContent = text; };

/** Beside the buttons, where whoever pressed one is looking. */
const say = (text) => { byId('settings-said').textContent = text; };

async function call(method, path, body) {
  try {
    const answer = await fetch(`api/${path}`, {
      method,
      headers: body === undefined ? {} : { 'Content-Type': 'application/json' },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    return { ok: answer.ok, status: answer.status, ...(await answer.json()) };
  } catch {
    return { ok: false, status: 0, error: 'the device does not answer' };
  }
}

function show(open) {
  byId('login').hidden = open;
  byId('first-password').hidden = true;
  byId('settings-form').hidden = !open;
}

async function load() {
  const answer = await call('GET', 'settings');
  show(answer.ok);
  if (!answer.ok) {
    tell(answer.first_visit ? '' : answer.error);
    byId('login').hidden = answer.status !== 401;
    byId('first-password').hidden = !answer.first_visit;
    return false;
  }
  const { settings, microphones, password_kept: kept, can_be_kept: lasting } = answer;
  tell(lasting
    ? 'What you keep here holds once the piano’s ear is restarted, which takes some seconds.'
    : 'Started without --settings: the broker can be tried here, and nothing can be kept.');
  byId('keep').disabled = !lasting;
  const names = ['', ...new Set([settings.mic, ...microphones].filter(Boolean))];
  byId('set-mic').replaceChildren(...names.map((name) =>
    element('option', { value: name, selected: name === (settings.mic ?? '') ? '' : null }, name || 'the system’s input')));
  byId('set-broker').value = settings.broker ?? '';
  byId('set-ca').value = settings.broker_ca ?? '';
  tellPassword(kept);
  return true;
}

function tellPassword(kept) {
  byId('set-password').value = '';
  byId('set-password-help').textContent = kept
    ? 'One is kept; leave this empty to go on with it.'
    : 'None is kept. It goes into a file that only the device’s own user can read.';
}

const filled = () => ({
  mic: byId('set-mic').value || null,
  broker: byId('set-broker').value.trim() || null,
  broker_password: byId('set-password').value || null,
  broker_ca: byId('set-ca').value.trim() || null,
});

async function test() {
  const button = byId('test');
  button.disabled = true;
  const stages = byId('stages');
  stages.replaceChildren(element('li', {}, '', '', 'Trying …'));
  const answer = await call('POST', 'connection-test', filled());
  button.disabled = false;
  const rows = answer.ok ? answer.stages : [{ name: '', passed: false, text: answer.error }];
  stages.replaceChildren(...rows.map(({ name, passed, text }) => {
    const word = passed === null ? 'left out' : passed ? 'passed' : 'failed';
    const sign = { passed: '✓', failed: '✗', 'left out': '–' }[word];
    return element('li', { 'data-stage': name },
      element('span', { class: word, role: 'img', 'aria-label': word }, sign),
      element('strong', {}, name),
      element('span', {}, text));
  }));
}

/**
 * Wires the page; `restart()` asks the piano for it and says `{error}`, or whether it is `{back}`;
 * `opened()` is told of a login.
 */
export function settingsPage({ restart, opened }) {
  byId('login').addEventListener('submit', async (event) => {
    event.preventDefault();
    const answer = await call('POST', 'login', { password: byId('login-password').value });
    byId('login-password').value = '';
    if (!answer.ok) {
      tell(answer.error);
      byId('login-password').focus();
      return;
    }
    opened();
    if (await load()) byId('set-mic').focus();
  });
  byId('first-password').addEventListener('submit', async (event) => {
    event.preventDefault();
    const [chosen, again] = [byId('chosen-password'), byId('chosen-again')];
    if (chosen.value !== again.value) {
      tell('The two are not the same.');
      again.focus();
      return;
    }
    const answer = await call('POST', 'first-password', { password: chosen.value });
    chosen.value = again.value = '';
    if (answer.ok) opened();
    if (await load()) byId('set-mic').focus();
    if (!answer.ok) tell(answer.error);
  });
  byId('settings-form').addEventListener('submit', async (event) => {
    event.preventDefault();
    const answer = await call('PUT', 'settings', filled());
    say(answer.ok ? 'Kept. It holds once the piano’s ear is restarted.' : answer.error);
    byId('restart').classList.toggle('primary', answer.ok);
    byId('keep').classList.toggle('primary', !answer.ok);
    if (!answer.ok) return;
    if (byId('set-password').value) tellPassword(true);
    byId('restart').focus();
  });
  byId('settings-form').addEventListener('input', () => {
    say('');
    byId('restart').classList.remove('primary');
    byId('keep').classList.add('primary');
  });
  byId('test').addEventListener('click', test);
  byId('restart').addEventListener('click', async () => {
    say('It restarts …');
    const { error, back } = await restart();
    if (error) {
      say(error);
      return;
    }
    await load();
    const how = back ? 'It is back, and what was kept holds.'
      : 'It ended and has not come back: nothing starts it again on this device. Start it by hand.';
    say(how);
    if (byId('settings-form').hidden) tell(`${how} ${byId('settings-note').textContent}`);
  });
  byId('logout').addEventListener('click', async () => {
    await call('POST', 'logout', {});
    await load();
  });
  addEventListener('hashchange', () => { if (location.hash === '#settings') load(); });
  if (location.hash === '#settings') load();
}
