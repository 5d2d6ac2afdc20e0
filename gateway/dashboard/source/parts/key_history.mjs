// What a key was used for in a period: by hour as bars, and by address; both are tables,
// too.

import { addresses, hours, total } from '../history.mjs';
import { html } from '../html.mjs';
import { exact } from '../times.mjs';
import { Bars, count } from './bars.mjs';
import { Moment } from './moment.mjs';
import { Rows } from './rows.mjs';

// More rows than this would help nobody.
const MOST = 200;

function numbers({ accepted, refused }) {
  return [accepted.toLocaleString('en'), refused.toLocaleString('en')];
}

export function History({ items, since, until }) {
  const slots = hours(items, since, until);
  const used = slots.filter((slot) => slot.accepted + slot.refused > 0).reverse();
  const from = addresses(items);
  const { accepted, refused } = total(slots);
  const highest = Math.max(...slots.map((slot) => slot.accepted));

  if (used.length === 0) {
    return html`<p class="notice">It was not used in this time.</p>`;
  }
  return html`<figure>
    <${Bars} slots=${slots} label="Uses by hour: ${count(accepted, 'use')} accepted, ${refused} refused" />
    <figcaption>${count(accepted, 'request')} accepted (above the line), ${refused.toLocaleString('en')} refused (below it),
      by hour from ${exact(since)} to ${exact(until)}. The highest bar is ${highest.toLocaleString('en')}.</figcaption>
  </figure>
  <details><summary>The same as a table</summary>
    <${Rows} label="Uses by hour" names=${['Hour', 'Accepted', 'Refused']} numeric=${[1, 2]}
      rows=${used.slice(0, MOST).map((slot) => [exact(slot.time), ...numbers(slot)])} left=${used.length - MOST} />
  </details>
  <h3>By address</h3>
  <${Rows} label="Uses by address" names=${['Address', 'Accepted', 'Refused', 'Last']} numeric=${[1, 2]}
    rows=${from.slice(0, MOST).map((each) => [each.address ?? 'unknown', ...numbers(each),
      html`<${Moment} at=${each.last} />`])} left=${from.length - MOST} />`;
}
