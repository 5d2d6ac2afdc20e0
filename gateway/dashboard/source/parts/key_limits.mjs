// The limits that count for one key; nothing if there are none.

import { html } from '../html.mjs';
import { readLimitsOfKey } from '../limits.mjs';
import { LimitTable } from './limit_table.mjs';
import { Loaded, useResource } from './load.mjs';

export function KeyLimits({ org, keyId }) {
  const limits = useResource(() => readLimitsOfKey(org, keyId), [org.org_id, keyId]);

  if (limits.error === undefined && !(limits.value?.length > 0)) {
    return null;
  }
  return html`<h2>Limits</h2>
    <${Loaded} of=${limits} what="the limits">${(items) => html`<${LimitTable} items=${items}
      ownerOf=${() => 'this key'} />`}<//>`;
}
