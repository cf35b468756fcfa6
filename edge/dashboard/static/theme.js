// Day or night: as chosen here with the button, else as the system has it. Not a module, so that
// it runs before the first paint.
(() => {
  const root = document.documentElement;
  const night = matchMedia('(prefers-color-scheme: dark)');
  const system = () => (night.matches ? 'dark' : 'light');
  let chosen = null;
  try {
    chosen = localStorage.getItem('theme');
  } catch {
    // No storage here: a choice lasts as long as the page.
  }
  const show = () => {
    root.dataset.theme = chosen ?? system();
    const dark = root.dataset.theme === 'dark';
    document.querySelector('meta[name="theme-color"]').content = dark ? '#15171b' : '#f6f2e9';
    document.getElementById('theme')?.setAttribute('aria-pressed', String(dark));
    dispatchEvent(new Event('themechange'));
  };
  const turn = () => {
    const wanted = root.dataset.theme === 'dark' ? 'light' : 'dark';
    chosen = wanted === system() ? null : wanted;
    try {
      if (chosen === null) localStorage.removeItem('theme');
      else localStorage.setItem('theme', chosen);
    } catch {
      // As above.
    }
    show();
  };
  show();
  night.addEventListener('change', show);
  addEventListener('DOMContentLoaded', () => {
    show();
    document.getElementById('theme').addEventListener('click', turn);
  });
})();
