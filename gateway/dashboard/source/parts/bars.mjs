// Bars: accepted uses above the line, refused ones below it, so that nobody has to tell
// colors apart.  All bars of a kind are one path, so that a long list stays light.

import { html } from '../html.mjs';

const UP = 30;
const DOWN = 10;
const STEP = 10;
const WIDTH = 8;

function barsOf(values, most, height, direction) {
  return values.map((value, index) => value > 0
    // A single use must be visible beside a million.
    ? `M${index * STEP} ${UP}h${WIDTH}v${direction * Math.max(1, Math.round(height * value / most * 10) / 10)}h-${WIDTH}z` : '')
    .join('');
}

export function count(number, noun, nouns = `${noun}s`) {
  return `${number.toLocaleString('en')} ${number === 1 ? noun : nouns}`;
}

export function Bars({ slots, label, kind = '' }) {
  const most = Math.max(1, ...slots.map(({ accepted }) => accepted));
  const mostRefused = Math.max(1, ...slots.map(({ refused }) => refused));

  return html`<svg class="bars ${kind}" role="img" aria-label=${label} preserveAspectRatio="none"
    viewBox="0 0 ${slots.length * STEP} ${UP + DOWN}">
    <path class="line" d="M0 ${UP}h${slots.length * STEP}" />
    <path class="accepted" d=${barsOf(slots.map(({ accepted }) => accepted), most, UP - 1, -1)} />
    <path class="refused" d=${barsOf(slots.map(({ refused }) => refused), mostRefused, DOWN - 1, 1)} />
  </svg>`;
}
