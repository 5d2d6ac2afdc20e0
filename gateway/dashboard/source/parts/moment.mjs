// A time: how far away it is, and exactly.

import { html } from '../html.mjs';
import { distance, exact, isReadable } from '../times.mjs';

export function Moment({ at, none = 'never' }) {
  if (!at) {
    return none;
  }
  if (!isReadable(at)) {
    return at;
  }
  return html`<time datetime=${at} title=${exact(at)}>${distance(at)}<span class="exact">${exact(at)}</span></time>`;
}
