// A key has leaked: everything that there is to do then, on one page, the most urgent
// first.

import { useState } from 'preact/hooks';

import { call } from '../api.mjs';
import { html } from '../html.mjs';
import { isRevoked } from '../key_state.mjs';
import { pathOf, readKey } from '../one_key.mjs';
import { announce } from '../parts/announce.mjs';
import { Anomalies } from '../parts/anomalies.mjs';
import { Field } from '../parts/field.mjs';
import { Uses, useUses } from '../parts/key_uses.mjs';
import { LastHour } from '../parts/last_hour.mjs';
import { ActionButton, Loaded, Problem, useAction, useResource } from '../parts/load.mjs';
import { Moment } from '../parts/moment.mjs';
import { Screen } from '../parts/screen.mjs';
import { hashOf } from '../route.mjs';

const DAYS = '30';

function Revocation({ path, item, onDone }) {
  const [reason, setReason] = useState('The secret has leaked');
  const revoking = useAction(async () => {
    await call('DELETE', `${path}?reason=${encodeURIComponent(reason)}`);
    announce(`Revoked “${item.name}”.`);
    onDone();
  });

  function submit(event) {
    event.preventDefault();
    revoking.run();
  }

  if (isRevoked(item)) {
    return html`<p class="notice good"><strong>It is revoked</strong>, since <${Moment} at=${item.revoked_at} />.
      Requests with it are refused.</p>`;
  }
  return html`<p>Whoever has the secret can use it until it is revoked. What uses it rightly stops working, too.</p>
    <${LastHour} path=${path} />
    <form class="narrow" onSubmit=${submit}>
      <${Field} id="reason" name="reason" label="Reason, for the audit log" required maxlength="200" autocomplete="off"
        value=${reason} onInput=${setReason} error=${revoking.error} />
      <${Problem} of=${revoking} />
      <div class="buttons"><${ActionButton} type="submit" kind="danger" action=${revoking}>Revoke it now<//></div>
    </form>`;
}

// When the last replacement of a webhook secret that was asked for has been answered.
let answered = Promise.resolve();

// One after the other, wherever the person goes meanwhile: the secret of the last answer
// is the one that counts.
function replaceSecret(org) {
  const asked = answered.then(() =>
    call('POST', `/organizations/${org.org_id}/webhook-secret/rotate`, { grace_seconds: 0 }));

  answered = asked.then(() => {}, () => {});
  return asked;
}

// Whoever has a key can read the webhook secret of its organization with it.
function WebhookSecret({ org, place, onSecret }) {
  const rotating = useAction(async () => onSecret(await replaceSecret(org), place));

  return html`<p>The key shows the webhook secret of the organization. With that, messages can be forged that look like
      webhooks of yours. Your receivers reject webhooks until they have the new one.</p>
    <${Problem} of=${rotating} />
    <div class="buttons"><${ActionButton} action=${rotating}>Replace the webhook secret now<//></div>`;
}

export function Leak({ org, features, keyId, query, onSecret }) {
  const path = pathOf(org, keyId);
  const place = [org.org_id, 'keys', keyId, 'leaked'];
  const key = useResource(async () => ({ item: await readKey(org, keyId, features) }), [path]);
  const uses = useUses(path, query.get('days') ?? DAYS);
  const item = key.value?.item;

  async function revoked() {
    await Promise.all([key.reload(), uses.usage.reload()]);
    requestAnimationFrame(() => document.querySelector('h1')?.focus());
  }

  return html`<${Screen} title=${item === undefined ? 'A key has leaked' : `“${item.name}” has leaked`}>
    <p><a href=${hashOf([org.org_id, 'keys', keyId])}>Back to the key</a></p>
    <${Loaded} of=${key} what="the key">${() => item === undefined
      ? html`<p class="notice bad">This key does not exist.</p>`
      : html`
        <h2>1. Revoke it</h2>
        <${Revocation} path=${path} item=${item} onDone=${revoked} />
        <h2>2. Replace what it has shown</h2>
        <${WebhookSecret} org=${org} place=${place} onSecret=${onSecret} />
        <h2>3. Replace the key</h2>
        <p>The new key has another secret. Store it where the old one was, but not where it leaked.</p>
        <div class="buttons"><a class="button" href=${hashOf([org.org_id, 'keys', 'new'], { like: keyId })}>
          Create a key like it</a></div>
        <h2>4. Look at what was done with it</h2>
        ${uses.usage.value && html`<${Anomalies} items=${uses.usage.value.anomalies} />`}
        <${Uses} of=${uses} item=${item} place=${place} />
        <h2>5. Afterwards</h2>
        <ul>
          <li>An address above that is not yours has used the key. Look in your own logs for what it has asked.</li>
          <li>Remove the secret from where it leaked: a repository keeps it in its history, a chat in its search.</li>
          <li>Look whether it was the only secret there.</li>
          <li>One key for each service makes the next leak smaller.</li>
        </ul>`}<//>
  <//>`;
}
