// Waiting for the first request that is made with a key.  It turns green by itself.

import { useEffect } from 'preact/hooks';

import { html } from '../html.mjs';
import { readKey } from '../one_key.mjs';
import { announce } from '../parts/announce.mjs';
import { FirstRequest } from '../parts/first_request.mjs';
import { Loaded, useResource } from '../parts/load.mjs';
import { Moment } from '../parts/moment.mjs';
import { Screen } from '../parts/screen.mjs';
import { hashOf } from '../route.mjs';

const INTERVAL = 2000;

export function Waiting({ org, keyId, features }) {
  const key = useResource(async () => await readKey(org, keyId, features) ?? null, [org.org_id, keyId]);
  const isUsed = Boolean(key.value?.last_used_at);

  useEffect(() => {
    if (isUsed) {
      announce('The first request has come.');
      return undefined;
    }
    const timer = setInterval(() => document.hidden || key.reload(), INTERVAL);

    return () => clearInterval(timer);
  }, [isUsed, key.reload]);
  return html`<${Screen} title="The first request">
    <${Loaded} of=${key} what="the key">${(found) => found === null
      ? html`<p class="notice bad">This key does not exist.</p>`
      : isUsed
        ? html`<p class="notice good"><strong>It works.</strong> “${found.name}” was used ${html`<${Moment} at=${found.last_used_at} />`}.</p>`
        : html`<p class="notice waiting">Waiting for the first request with “${found.name}” …</p>`}
    <//>
    ${!isUsed && html`<${FirstRequest} />`}
    <div class="buttons"><a class="button main" href=${hashOf([org.org_id, 'keys'])}>${isUsed ? 'To the keys' : 'Later: to the keys'}</a></div>
  <//>`;
}
