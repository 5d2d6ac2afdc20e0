// Limits, each with what is left as a bar and in words.

import { html } from '../html.mjs';
import { DAY } from '../times.mjs';
import { Moment } from './moment.mjs';

const PERIODS = { 1: 'a second', 60: 'a minute', 3600: 'an hour', 86400: 'a day' };
const UNITS = [[3600, 'hours'], [60, 'minutes'], [1, 'seconds']];

// The width of the bar of a limit that is full.
const WIDTH = 100;

function periodOf({ period_seconds: seconds }) {
  const [unit, name] = UNITS.find(([each]) => seconds % each === 0);

  // Only months are longer than a day.
  return seconds * 1000 > DAY ? 'a month' : PERIODS[seconds] ?? `every ${seconds / unit} ${name}`;
}

function rule(item) {
  const atOnce = item.burst !== null && item.burst !== item.quota ? `, ${item.burst.toLocaleString('en')} at once` : '';

  return `${item.quota.toLocaleString('en')} ${periodOf(item)}${atOnce}`;
}

function Left({ of: { remaining, burst, quota } }) {
  const most = burst ?? quota;
  const width = Math.round(WIDTH * 10 * remaining / most) / 10;

  return html`<div>${remaining.toLocaleString('en')} of ${most.toLocaleString('en')} left
    <svg class="left" viewBox="0 0 ${WIDTH} 10" preserveAspectRatio="none" aria-hidden="true">
      <path class="accepted" d="M0 0h${width}v10h-${width}z" /></svg></div>`;
}

function Full({ of: item }) {
  if (item.burst === null) {
    return html`<span>when the period ends, <${Moment} at=${item.full_at} /></span>`;
  }
  return item.reset_seconds === 0 ? 'it is full' : html`<span><${Moment} at=${item.full_at} /></span>`;
}

// "ownerOf" gives what is shown for the id of a key.
export function LimitTable({ items, ownerOf }) {
  return html`<table role="table" class="stacked" aria-label="Limits">
    <thead role="rowgroup"><tr role="row">${['Key', 'Limit', 'Left', 'Full again', 'Refused']
      .map((text) => html`<th role="columnheader" scope="col">${text}</th>`)}</tr></thead>
    <tbody role="rowgroup">${items.map((item) => html`<tr role="row" key=${`${item.key_id} ${item.name}`}>
      <th role="rowheader" scope="row">${item.key_id === null ? 'all keys together' : ownerOf(item.key_id)}</th>
      <td role="cell" data-label="Limit"><div>${rule(item)} <code>${item.name}</code></div></td>
      <td role="cell" data-label="Left"><${Left} of=${item} /></td>
      <td role="cell" data-label="Full again"><${Full} of=${item} /></td>
      <td role="cell" data-label="Refused">${item.refusals.toLocaleString('en')}</td>
    </tr>`)}</tbody>
  </table>`;
}
