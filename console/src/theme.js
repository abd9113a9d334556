// The theme: that of the system, or the one that was chosen. `data-theme` of the document is `light` or `dark`.

import { keep, recall } from './storage.js';

const KEY = 'campanile-console-theme';
const SYSTEM = matchMedia('(prefers-color-scheme: dark)');

export const THEMES = [['auto', 'Auto'], ['light', 'Light'], ['dark', 'Dark']];

/** The theme that was chosen, or `auto`. */
export function chosenTheme() {
  const theme = recall(KEY);
  return THEMES.some(([each]) => each === theme) ? theme : 'auto';
}

export function chooseTheme(theme) {
  keep(KEY, theme);
  apply(theme);
}

/** Applies the theme that was chosen earlier, and follows the system as long as none is. */
export function startTheme() {
  apply(chosenTheme());
  SYSTEM.addEventListener('change', () => apply(document.documentElement.dataset.chosen));
}

function apply(theme) {
  const { dataset } = document.documentElement;
  dataset.chosen = theme;
  dataset.theme = theme === 'auto' ? (SYSTEM.matches ? 'dark' : 'light') : theme;
}
