'use strict';
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const one = (selector, root = document) => root.querySelector(selector);

  // Light or dark: as the system says, until the button says otherwise.
  const theme = one('#theme');
  const system = matchMedia('(prefers-color-scheme: dark)');
  const stored = { // a browser may forbid it for files
    get: () => { try { return localStorage.getItem('theme'); } catch { return null; } },
    set: (value) => { try { localStorage.setItem('theme', value); } catch { /* it lasts as long as the page */ } },
  };
  const dark = () => (document.documentElement.dataset.theme ?? (system.matches ? 'dark' : 'light')) === 'dark';
  const tellTheme = () => theme.setAttribute('aria-pressed', dark());
  if (['light', 'dark'].includes(stored.get())) document.documentElement.dataset.theme = stored.get();
  tellTheme();
  system.addEventListener('change', tellTheme);
  theme.addEventListener('click', () => {
    stored.set(document.documentElement.dataset.theme = dark() ? 'light' : 'dark');
    tellTheme();
  });

  one('#branches')?.addEventListener('change', (event) => {
    for (const block of all('[data-branch]')) block.hidden = block.dataset.branch !== event.target.value;
  });

  // Tables: a click on a heading sorts, another one turns the order; what has no value stays last.
  const cellValue = (row, column) => row.cells[column].dataset.value;
  const compare = (a, b) => (isNaN(a) || isNaN(b) ? a.localeCompare(b) : a - b);
  for (const button of all('.sortable th button')) {
    button.addEventListener('click', () => {
      const heading = button.closest('th');
      const table = heading.closest('table');
      const number = heading.classList.contains('number');
      const before = heading.getAttribute('aria-sort');
      const order = before ? (before === 'ascending' ? 'descending' : 'ascending') : number ? 'descending' : 'ascending';
      for (const other of all('th[aria-sort]', table)) other.removeAttribute('aria-sort');
      heading.setAttribute('aria-sort', order);
      const sign = order === 'ascending' ? 1 : -1;
      const body = table.tBodies[0];
      body.append(...[...body.rows].sort((a, b) => {
        const [x, y] = [a, b].map((row) => cellValue(row, heading.cellIndex));
        return x === '' || y === '' ? (x === '') - (y === '') : sign * compare(x, y);
      }));
    });
  }

  // Confusion matrix: the cell under pointer or focus is told in words.
  for (const table of all('.matrix')) {
    const readout = table.closest('div[data-branch]').querySelector('.readout');
    const tell = (cell) => {
      const truth = one('th', cell.parentElement).dataset.name;
      const guess = table.tHead.rows[0].cells[cell.cellIndex].dataset.name;
      const { pixels, share } = cell.dataset;
      readout.textContent = `${truth}, predicted as ${guess}: ${pixels} pixels, ${share} % of ${truth}`;
    };
    for (const type of ['pointerover', 'focusin']) {
      table.addEventListener(type, (event) => {
        const cell = event.target.closest('td[data-pixels]');
        if (cell) tell(cell);
      });
    }
    const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    table.addEventListener('keydown', (event) => {
      const cell = event.target;
      if (!steps[event.key] || !cell.dataset.pixels) return;
      event.preventDefault();
      const [down, right] = steps[event.key];
      const next = table.tBodies[0].rows[cell.parentElement.sectionRowIndex + down]?.cells[cell.cellIndex + right];
      if (!next?.dataset.pixels) return;
      cell.tabIndex = -1;
      next.tabIndex = 0;
      next.focus();
    });
  }

  // Gallery: one choice of view for all images.
  const bar = one('#bar');
  if (!bar) return;
  const chosen = () => one('input[name=layer]:checked').value;
  const show = () => {
    const view = chosen();
    for (const stage of all('.stage')) {
      const layer = one('.layer', stage);
      layer.hidden = view === 'image';
      if (view !== 'image') layer.src = `${stage.dataset.stem}-${view}.png`;
      for (const names of all('.names', stage)) names.hidden = names.dataset.layer !== view;
    }
    for (const legend of all('[data-legend]')) legend.hidden = !legend.dataset.legend.split(' ').includes(view);
    one('#blend').disabled = view === 'image' || view === 'confidence';
  };
  one('#layers').addEventListener('change', show);
  const blend = () => document.documentElement.style.setProperty('--blend', one('#blend').value / 100);
  one('#blend').addEventListener('input', blend);

  // One image large; the bar moves along.
  const large = one('#large');
  const figures = all('#gallery figure');
  let current = 0;
  const enlarge = (index) => {
    current = (index + figures.length) % figures.length;
    const figure = figures[current].cloneNode(true);
    one('.enlarge', figure).remove();
    one('#large-figure').replaceChildren(figure);
    one('#place').textContent = `${current + 1} of ${figures.length}`;
    one('#large-bar').append(bar);
    if (!large.open) large.showModal();
  };
  figures.forEach((figure, index) => {
    one('.enlarge', figure).addEventListener('click', () => enlarge(index));
    one('.stage', figure).addEventListener('click', () => enlarge(index));
  });
  one('#previous').addEventListener('click', () => enlarge(current - 1));
  one('#next').addEventListener('click', () => enlarge(current + 1));
  one('#close').addEventListener('click', () => large.close());
  large.addEventListener('close', () => {
    one('#bar-place').append(bar);
    one('#large-figure').replaceChildren();
    one('.enlarge', figures[current]).focus();
  });
  document.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const input = all('input', bar).filter((each) => each.type === 'radio')[Number(event.key) - 1];
    if (input) {
      input.checked = true;
      show();
    } else if (large.open && event.target.tagName !== 'INPUT') {
      if (event.key === 'ArrowLeft') enlarge(current - 1);
      if (event.key === 'ArrowRight') enlarge(current + 1);
    }
  });
  blend();
  show();
})();
