// Keeps the page itself, so that it opens at once and without the device; what is live never
// comes from here. The server puts the fingerprint of all files in place of the mark.

const SHELL = 'shell-@FINGERPRINT@';
const FILES = [
  './', 'style.css', 'theme.js', 'app.js', 'asker.js', 'dom.js', 'keyboard.js', 'keys.js', 'mqtt.js',
  'pages.js', 'picture.js', 'roll.js', 'settings.js', 'icon.svg', 'manifest.webmanifest',
];

addEventListener('install', (event) => {
  event.waitUntil(caches.open(SHELL).then((cache) => cache.addAll(FILES)).then(() => skipWaiting()));
});

addEventListener('activate', (event) => {
  const old = (names) => names.filter((name) => name.startsWith('shell-') && name !== SHELL);
  event.waitUntil(
    caches.keys().then((names) => Promise.all(old(names).map((name) => caches.delete(name)))).then(() => clients.claim()),
  );
});

// The device first, as long as it is there: a page is never older than what it talks to.
addEventListener('fetch', (event) => {
  const url = new URL(event.request.url);
  if (event.request.method !== 'GET' || url.origin !== location.origin || url.pathname.includes('/api/')) return;
  event.respondWith(
    fetch(event.request).catch(async () => (await caches.match(event.request, { ignoreSearch: true })) ?? Response.error()),
  );
});
