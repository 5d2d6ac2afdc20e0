// Templates: HTML that becomes elements of preact.

import htm from 'htm';
import { h } from 'preact';

// htm would keep elements without variable parts for the next time, and with them their
// parents, so that a secret stayed in memory.  3 tells it not to.
export const html = htm.bind(function element(...parts) {
  this[0] = 3;
  return h(...parts);
});
