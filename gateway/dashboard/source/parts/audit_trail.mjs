// Pages of the audit log of an organization or of one of its keys, the latest first.

import { useState } from 'preact/hooks';

import { get } from '../api.mjs';
import { html } from '../html.mjs';
import { hashOf } from '../route.mjs';
import { ActionButton, Loaded, Problem, useAction, useResource } from './load.mjs';
import { Moment } from './moment.mjs';
import { Rows } from './rows.mjs';

const PAGE = 50;

function detailOf(detail) {
  return typeof detail === 'string' ? detail
    : Object.entries(detail ?? {}).map(([name, value]) => `${name}: ${typeof value === 'string' ? value : JSON.stringify(value)}`).join(', ');
}

export function AuditTrail({ org, keyId }) {
  const [older, setOlder] = useState([]);
  const [cursor, setCursor] = useState();
  const query = keyId === undefined ? '' : `&key_id=${encodeURIComponent(keyId)}`;
  const page = (after) => get(`/organizations/${org.org_id}/audit-log?limit=${PAGE}${query}${after ? `&cursor=${encodeURIComponent(after)}` : ''}`);
  const first = useResource(async () => {
    const found = await page();

    setOlder([]);
    setCursor(found.next_cursor);
    return found.items;
  }, [org.org_id, keyId]);
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
    ${cursor && html`<div class="buttons"><${ActionButton} action=${reading}>Older<//></div>`}
    <${Problem} of=${reading} />`}<//>`;
}
