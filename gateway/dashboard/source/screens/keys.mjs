// The keys of an organization.  Its filters are in the URL, so that a link shows the same.

import { get } from '../api.mjs';
import { daysByKey, total } from '../history.mjs';
import { html } from '../html.mjs';
import { UNUSED_DAYS, filtered, isRevoked } from '../key_state.mjs';
import { Bars, count } from '../parts/bars.mjs';
import { Choice, Field } from '../parts/field.mjs';
import { Loaded, useResource } from '../parts/load.mjs';
import { Moment } from '../parts/moment.mjs';
import { Screen } from '../parts/screen.mjs';
import { Status } from '../parts/status.mjs';
import { hashOf, replace } from '../route.mjs';

const DAYS = 30;
const NO_USE = Array.from({ length: DAYS }, () => ({ accepted: 0, refused: 0 }));

async function readKeys(orgId) {
  const path = `/organizations/${orgId}`;
  const [{ items: keys }, { items: usage }] =
    await Promise.all([get(`${path}/api-keys`), get(`${path}/usage?by=key,day`)]);

  return { keys, uses: daysByKey(usage, DAYS) };
}

function Row({ org, item, slots, features }) {
  const { accepted, refused } = total(slots);
  const label = `${count(accepted, 'use')}${refused > 0 ? `, ${refused} refused` : ''} in ${DAYS} days`;

  return html`<tr role="row">
    <th role="rowheader" scope="row"><a href=${hashOf([org.org_id, 'keys', item.key_id])}>${item.name}</a>
      <code>${item.prefix}…</code>${item.environment === 'test' && html`<span class="badge">test</span>`}</th>
    <td role="cell" data-label="Status"><${Status} of=${item} /></td>
    <td role="cell" data-label="Last ${DAYS} days"><${Bars} slots=${slots} label=${label} kind="small" /></td>
    <td role="cell" data-label="Last used"><${Moment} at=${item.last_used_at} /></td>
    <td role="cell" data-label="Created"><${Moment} at=${item.created_at} /></td>
    ${features.people && html`<td role="cell" data-label="Created by">${item.created_by ?? 'the service'}</td>`}
  </tr>`;
}

function Table({ label, keys, org, uses, features }) {
  return html`<table role="table" class="stacked" aria-label=${label}>
    <thead role="rowgroup"><tr role="row">
      ${['Key', 'Status', `Last ${DAYS} days`, 'Last used', 'Created', ...(features.people ? ['Created by'] : [])]
        .map((text) => html`<th role="columnheader" scope="col">${text}</th>`)}
    </tr></thead>
    <tbody role="rowgroup">${keys.map((key) => html`<${Row} key=${key.key_id} org=${org} item=${key}
      slots=${uses.get(key.key_id) ?? NO_USE} features=${features} />`)}</tbody>
  </table>`;
}

function Filters({ org, filter, features }) {
  const set = (change) => replace([org.org_id, 'keys'], { ...filter, ...change });
  const states = ['active', ...(features.expiry ? ['expired'] : []), ...(features.disable ? ['disabled'] : []), 'revoked'];

  return html`<form class="filters" role="search" aria-label="Filters" onSubmit=${(event) => event.preventDefault()}>
    <${Field} id="search" name="search" label="Search" type="search" value=${filter.search}
      onInput=${(search) => set({ search })} />
    <${Choice} id="status" label="Status" value=${filter.status} onInput=${(status) => set({ status })}
      options=${[['', 'any'], ...states.map((state) => [state, state])]} />
    <${Choice} id="unused" label="Last used" value=${filter.unused} onInput=${(unused) => set({ unused })}
      options=${[['', 'at any time'], [String(UNUSED_DAYS), `not for ${UNUSED_DAYS} days`]]} />
  </form>`;
}

function List({ value: { keys, uses }, features, org, filter }) {
  const shown = filtered(keys, filter);
  const usable = shown.filter((key) => !isRevoked(key));
  const revoked = shown.filter(isRevoked);
  const isFiltered = Boolean(filter.search || filter.status || filter.unused);

  if (keys.length === 0) {
    return html`<p class="notice">There are no keys yet.</p>`;
  }
  return html`<${Filters} org=${org} filter=${filter} features=${features} />
    <p class="announcement" role="status">${isFiltered ? `${count(shown.length, 'key')} found` : ''}</p>
    ${shown.length === 0 && html`<p class="notice">No key is like this.
      <a href=${hashOf([org.org_id, 'keys'])}> Show all keys</a></p>`}
    ${usable.length > 0 && html`<${Table} label="Keys" keys=${usable} org=${org} uses=${uses} features=${features} />`}
    ${revoked.length > 0 && html`<details open=${filter.status === 'revoked'}>
      <summary>${count(revoked.length, 'revoked key')}</summary>
      <${Table} label="Revoked keys" keys=${revoked} org=${org} uses=${uses} features=${features} />
    </details>`}`;
}

export function Keys({ org, features, query }) {
  const keys = useResource(() => readKeys(org.org_id), [org.org_id]);
  const filter = Object.fromEntries(['status', 'unused', 'search'].map((name) => [name, query.get(name) ?? '']));

  return html`<${Screen} title="Keys">
    <div class="buttons"><a class="button main" href=${hashOf([org.org_id, 'keys', 'new'])}>Create a key</a></div>
    <${Loaded} of=${keys} what="the keys">${(value) => html`<${List} value=${value} features=${features}
      org=${org} filter=${filter} />`}<//>
  <//>`;
}
