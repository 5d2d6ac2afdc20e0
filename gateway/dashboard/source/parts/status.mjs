// The status of a key, as a word and an icon.

import { html } from '../html.mjs';
import { statusOf } from '../key_state.mjs';

// Paths in a square of 16.
const ICONS = {
  active: 'M3 8.5l3.5 3.5L13 4.5',
  expiring: 'M8 3.5V8l3 2M8 1.5a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13z',
  expired: 'M8 3.5V8l3 2M8 1.5a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13zM2.5 13.5l11-11',
  disabled: 'M5.5 3v10M10.5 3v10',
  revoked: 'M4 4l8 8M12 4l-8 8',
};

export function Status({ of: key }) {
  const { kind, text } = statusOf(key);

  return html`<span class="status ${kind}">
    <svg viewBox="0 0 16 16" width="16" height="16" aria-hidden="true"><path d=${ICONS[kind] ?? ICONS.active} /></svg>${text}
  </span>`;
}
