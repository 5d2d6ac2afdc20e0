// Pages of the audit log of an organization or of one of its keys, the latest first.

import { useState } from 'preact/hooks';

import { get } from '../api.mjs';
import { html } from '../html.mjs';
import { hashOf } from '../route.mjs';
import { csv, save } from '../save.mjs';
import { announce } from './announce.mjs';
import { ActionButton, Loaded, Problem, useAction, useResource } from './load.mjs';
import { Moment } from './moment.mjs';
import { Rows } from './rows.mjs';

const PAGE = 50;

// For files: the largest page of the API, and how many of them.
const LONG_PAGE = 200;
const PAGES_MAX = 100;

function detailOf(detail) {
  return typeof detail === 'string' ? detail
    : Object.entries(detail ?? {}).map(([name, value]) => `${name}: ${typeof value === 'string' ? value : JSON.stringify(value)}`).join(', ');
}

// All rows that "page" gives for a cursor, the latest first, up to a limit.
async function readRows(page) {
  const rows = [];
  let cursor;

  for (let pages = 0; pages < PAGES_MAX; pages++) {
    const found = await page(cursor, LONG_PAGE);

    rows.push(...found.items);
    cursor = found.next_cursor;
    if (cursor === null) {
      break;
    }
  }
  return { rows, isAll: cursor === null };
}

async function download(page) {
  const { rows, isAll } = await readRows(page);

  save('audit-log.csv', csv([['time', 'action', 'key_id', 'uid', 'detail'],
    ...rows.map((row) => [row.at, row.action, row.key_id, row.uid, detailOf(row.detail)])]), 'text/csv');
  announce(isAll ? 'Downloaded the audit log.' : `Downloaded the latest ${rows.length} rows.`);
}

export function AuditTrail({ org, keyId }) {
  const [older, setOlder] = useState([]);
  const [cursor, setCursor] = useState();
  const query = keyId === undefined ? '' : `&key_id=${encodeURIComponent(keyId)}`;
  const page = (after, limit = PAGE) => get(`/organizations/${org.org_id}/audit-log?limit=${limit}${query}${after ? `&cursor=${encodeURIComponent(after)}` : ''}`);
  const first = useResource(async () => {
    const found = await page();

    setOlder([]);
    setCursor(found.next_cursor);
    return found.items;
  }, [org.org_id, keyId]);
  const downloading = useAction(() => download(page));
  const reading = useAction(async () => {
    const found = await page(cursor);

    setOlder([...older, ...found.items]);
    setCursor(found.next_cursor);
  });

  return html`<${Loaded} of=${first} what="the audit log">${(items) => html`
    <${Rows} label="Audit log" names=${['When', 'What', ...(keyId ? [] : ['Key']), 'Who', 'Details']}
      rows=${[...items, ...older].map((row) => [html`<${Moment} at=${row.at} />`, row.action.replaceAll('_', ' '),
        ...(keyId ? [] : [row.key_id && html`<a href=${hashOf([org.org_id, 'keys', row.key_id])}><code>${row.key_id}</code></a>`]),
        row.uid ?? 'the service', detailOf(row.detail)])} />
    <div class="buttons">${cursor && html`<${ActionButton} action=${reading}>Older<//>`}
      <${ActionButton} action=${downloading}>Download the audit log as CSV<//></div>
    <${Problem} of=${reading} /><${Problem} of=${downloading} />`}<//>`;
}
