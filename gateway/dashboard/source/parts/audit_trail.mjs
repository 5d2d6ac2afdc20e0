// Pages of the audit log of an organization or of one of its keys, the latest first.

import { get } from '../api.mjs';
import { html } from '../html.mjs';
import { hashOf } from '../route.mjs';
import { csv, save } from '../save.mjs';
import { announce } from './announce.mjs';
import { ActionButton, Loaded, Problem, useAction } from './load.mjs';
import { Moment } from './moment.mjs';
import { pageQuery, readAllPages, usePages } from './pages.mjs';
import { Rows } from './rows.mjs';

const PAGE = 50;

function detailOf(detail) {
  return typeof detail === 'string' ? detail
    : Object.entries(detail ?? {}).map(([name, value]) => `${name}: ${typeof value === 'string' ? value : JSON.stringify(value)}`).join(', ');
}

async function download(read) {
  const { items, isAll } = await readAllPages(read);

  save('audit-log.csv', csv([['time', 'action', 'key_id', 'uid', 'detail'],
    ...items.map((row) => [row.at, row.action, row.key_id, row.uid, detailOf(row.detail)])]), 'text/csv');
  announce(isAll ? 'Downloaded the audit log.' : `Downloaded the latest ${items.length} rows.`);
}

export function AuditTrail({ org, keyId }) {
  const about = keyId === undefined ? '' : `&key_id=${encodeURIComponent(keyId)}`;
  const read = (cursor, limit = PAGE) => get(`/organizations/${org.org_id}/audit-log?${pageQuery(cursor, limit)}${about}`);
  const { first, more, hasMore, reading } = usePages(read, [org.org_id, keyId]);
  const downloading = useAction(() => download(read));

  return html`<${Loaded} of=${first} what="the audit log">${({ items }) => html`
    <${Rows} label="Audit log" names=${['When', 'What', ...(keyId ? [] : ['Key']), 'Who', 'Details']}
      rows=${[...items, ...more].map((row) => [html`<${Moment} at=${row.at} />`, row.action.replaceAll('_', ' '),
        ...(keyId ? [] : [row.key_id && html`<a href=${hashOf([org.org_id, 'keys', row.key_id])}><code>${row.key_id}</code></a>`]),
        row.uid ?? 'the service', detailOf(row.detail)])} />
    <div class="buttons">${hasMore && html`<${ActionButton} action=${reading}>Older<//>`}
      <${ActionButton} action=${downloading}>Download the audit log as CSV<//></div>
    <${Problem} of=${reading} /><${Problem} of=${downloading} />`}<//>`;
}
