// The uses of a month, which are what is billed: by day as bars, and by key; and the
// credits that are paid for in advance, where the service uses them.

import { get } from '../api.mjs';
import { total } from '../history.mjs';
import { html } from '../html.mjs';
import { Bars, count } from '../parts/bars.mjs';
import { Credits } from '../parts/credits.mjs';
import { Choice } from '../parts/field.mjs';
import { Loaded, useResource } from '../parts/load.mjs';
import { Rows } from '../parts/rows.mjs';
import { Screen } from '../parts/screen.mjs';
import { hashOf, replace } from '../route.mjs';
import { csv, save } from '../save.mjs';
import { DAY, rfc3339 } from '../times.mjs';

// How far back the API lets us look.
const MONTHS = 3;

function monthBefore(months) {
  const now = new Date();

  return new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth() - months, 1));
}

function nameOf(month) {
  return month.toISOString().slice(0, 7);
}

function sums(items, first, last) {
  const days = Array.from({ length: Math.round((last - first) / DAY) }, () => ({ accepted: 0, refused: 0 }));
  const keys = new Map();

  for (const item of items) {
    const key = keys.get(item.key_id) ?? { ...item, accepted: 0, refused: 0 };

    for (const sum of [days[Math.floor((Date.parse(item.day) - first) / DAY)], key]) {
      sum.accepted += item.accepted;
      sum.refused += item.refused;
    }
    keys.set(item.key_id, key);
  }
  return { days, keys: [...keys.values()].sort((a, b) => b.accepted - a.accepted) };
}

function Month({ org, name, items, first, last }) {
  const { days, keys } = sums(items, first, last);
  const { accepted, refused } = total(days);
  const highest = Math.max(...days.map((day) => day.accepted));

  function download() {
    save(`usage-${name}.csv`, csv([['key_id', 'name', 'prefix', 'day', 'accepted', 'refused'],
      ...items.map((item) => [item.key_id, item.name, item.prefix, item.day.slice(0, 10), item.accepted, item.refused])]), 'text/csv');
  }

  if (items.length === 0) {
    return html`<p class="notice">There was no use in this month.</p>`;
  }
  return html`<figure>
    <${Bars} slots=${days} label="Uses by day: ${count(accepted, 'use')} accepted, ${refused} refused" />
    <figcaption>${count(accepted, 'request')} accepted (above the line), ${refused.toLocaleString('en')} refused (below it),
      by day in ${name} (UTC). The highest bar is ${highest.toLocaleString('en')}.</figcaption>
  </figure>
  <h2>By key</h2>
  <${Rows} label="Uses by key" names=${['Key', 'Prefix', 'Accepted', 'Refused']} numeric=${[2, 3]}
    rows=${keys.map((key) => [html`<a href=${hashOf([org.org_id, 'keys', key.key_id])}>${key.name}</a>`,
      html`<code>${key.prefix}…</code>`, key.accepted.toLocaleString('en'), key.refused.toLocaleString('en')])} />
  <div class="buttons"><button type="button" onClick=${download}>Download by day as CSV</button></div>`;
}

export function Usage({ org, features, query }) {
  const months = Array.from({ length: MONTHS }, (_, index) => nameOf(monthBefore(index)));
  const back = Math.max(0, months.indexOf(query.get('month')));
  const first = monthBefore(back);
  const last = monthBefore(back - 1);
  const usage = useResource(async () =>
    (await get(`/organizations/${org.org_id}/usage?by=key,day&since=${rfc3339(first.getTime())}&until=${rfc3339(last.getTime())}`)).items,
    [org.org_id, back]);

  return html`<${Screen} title="Usage">
    <${Choice} id="month" label="Month" value=${months[back]} options=${months.map((month) => [month, month])}
      onInput=${(month) => replace([org.org_id, 'usage'], { month })} />
    <${Loaded} of=${usage} what="the usage">${(items) => html`<${Month} org=${org} name=${months[back]} items=${items}
      first=${first} last=${last} />`}<//>
    ${features.credits && html`<${Credits} org=${org} />`}
  <//>`;
}
