// What a key was used for, in a period that the person chooses.

import { get } from '../api.mjs';
import { html } from '../html.mjs';
import { replace } from '../route.mjs';
import { csv, save } from '../save.mjs';
import { DAY, rfc3339 } from '../times.mjs';
import { History } from './key_history.mjs';
import { Loaded, useResource } from './load.mjs';

const PERIODS = { 1: '24 hours', 7: '7 days', 30: '30 days' };

// "path" is that of the key, and "wanted" how many days the URL asks for.
export function useUses(path, wanted) {
  const days = wanted in PERIODS ? Number(wanted) : 1;
  const usage = useResource(async () => {
    const until = Date.now();
    const since = until - days * DAY;

    return { since, until, ...await get(`${path}/usage?since=${rfc3339(since)}&until=${rfc3339(until)}`) };
  }, [path, days]);

  return { days, usage };
}

function download(item, items) {
  save(`${item.key_id}-uses.csv`, csv([['hour', 'address', 'accepted', 'refused', 'first', 'last'],
    ...items.map((row) => [row.hour, row.client_addr ?? 'unknown', row.accepted, row.refused, row.first_used_at, row.last_used_at])]),
    'text/csv');
}

// "place" is where the buttons lead, with another period.
export function Uses({ of: { days, usage }, item, place }) {
  return html`<div class="buttons" role="group" aria-label="Period">
    ${Object.entries(PERIODS).map(([each, text]) => html`<button type="button"
      aria-pressed=${Number(each) === days ? 'true' : 'false'} onClick=${() => replace(place, { days: each })}>${text}</button>`)}
  </div>
  <${Loaded} of=${usage} what="the history">${(value) => html`<${History} ...${value} />
    ${value.items.length > 0 && html`<div class="buttons"><button type="button"
      onClick=${() => download(item, value.items)}>Download the uses as CSV</button></div>`}`}<//>`;
}
