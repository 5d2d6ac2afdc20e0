// One key: what is wrong with it, what it was used for, and what was done with it.

import { useState } from 'preact/hooks';

import { call, get } from '../api.mjs';
import { html } from '../html.mjs';
import { featuresOf, isRevoked } from '../key_state.mjs';
import { announce } from '../parts/announce.mjs';
import { Anomalies } from '../parts/anomalies.mjs';
import { AuditTrail } from '../parts/audit_trail.mjs';
import { History } from '../parts/key_history.mjs';
import { ActionButton, Loaded, Problem, useAction, useResource } from '../parts/load.mjs';
import { Moment } from '../parts/moment.mjs';
import { Rotation } from '../parts/rotation.mjs';
import { Screen } from '../parts/screen.mjs';
import { Status } from '../parts/status.mjs';
import { hashOf, replace } from '../route.mjs';
import { DAY, rfc3339 } from '../times.mjs';
import { RevokeKey } from './revoke_key.mjs';
import { RotateKey } from './rotate_key.mjs';

const PERIODS = { 1: '24 hours', 7: '7 days', 30: '30 days' };

function Facts({ item, features }) {
  const facts = [
    ['Status', html`<${Status} of=${item} />`],
    ['Prefix', html`<code>${item.prefix}…</code>`],
    ['Key id', html`<code>${item.key_id}</code>`],
    ['Created', html`<${Moment} at=${item.created_at} />`],
    ['Last used', html`<${Moment} at=${item.last_used_at} />`],
    ...(features.environments ? [['Environment', item.environment]] : []),
    ...(features.expiry ? [['Expires', html`<${Moment} at=${item.expires_at} />`]] : []),
    ...(features.addresses ? [['Allowed addresses', item.allowed_addresses?.join(', ') ?? 'all']] : []),
    ...(features.people ? [['Created by', item.created_by ?? 'the service']] : []),
    ...(isRevoked(item) ? [['Revoked', html`<${Moment} at=${item.revoked_at} />`]] : []),
  ];

  return html`<dl class="facts">${facts.map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;
}

function Enabling({ path, item, onDone }) {
  const enabling = useAction(async () => {
    await call('PATCH', path, { disabled: false });
    onDone(`Enabled “${item.name}”.`);
  });

  return html`<${ActionButton} action=${enabling}>Enable<//><${Problem} of=${enabling} />`;
}

function Actions({ path, item, features, canRotate, onKey, onDone }) {
  const [isRevoking, setIsRevoking] = useState(false);
  const [isRotating, setIsRotating] = useState(false);
  const isDisabled = Boolean(item.disabled_at);

  function done(text) {
    setIsRevoking(false);
    announce(text);
    onDone();
  }

  if (isRevoked(item)) {
    return null;
  }
  return html`<div class="buttons">
    ${isDisabled && html`<${Enabling} path=${path} item=${item} onDone=${done} />`}
    ${canRotate && html`<button type="button" onClick=${() => setIsRotating(true)}>Rotate…</button>`}
    <button type="button" class="danger" onClick=${() => setIsRevoking(true)}>Revoke…</button>
  </div>
  ${isRotating && html`<${RotateKey} path=${path} item=${item} onKey=${onKey} onClose=${() => setIsRotating(false)} />`}
  ${isRevoking && html`<${RevokeKey} path=${path} item=${item} canDisable=${features.disable && !isDisabled}
    onDone=${done} onClose=${() => setIsRevoking(false)} />`}`;
}

// What the API says of a key's last rotation; undefined if the service offers none.
async function readRotation(path) {
  try {
    return (await get(`${path}/rotation`)).items;
  } catch (error) {
    if (error.code === 'not_found') {
      return undefined;
    }
    throw error;
  }
}

export function Key({ org, keyId, query, onKey }) {
  const path = `/organizations/${org.org_id}/api-keys/${encodeURIComponent(keyId)}`;
  const days = query.get('days') in PERIODS ? Number(query.get('days')) : 1;
  const key = useResource(async () => {
    const { items } = await get(`/organizations/${org.org_id}/api-keys`);

    const item = items.find((each) => each.key_id === keyId);
    const features = featuresOf(items);

    return { item, features, rotation: item && features.any ? await readRotation(path) : undefined };
  }, [path]);
  const usage = useResource(async () => {
    const until = Date.now();
    const since = until - days * DAY;

    return { since, until, ...await get(`${path}/usage?since=${rfc3339(since)}&until=${rfc3339(until)}`) };
  }, [path, days]);
  const [changes, setChanges] = useState(0);
  const item = key.value?.item;

  // What has the focus may be gone when the key has changed.
  async function reload() {
    await key.reload();
    setChanges(changes + 1);
    requestAnimationFrame(() => document.querySelector('h1')?.focus());
  }

  return html`<${Screen} title=${item?.name ?? 'Key'}>
    <p><a href=${hashOf([org.org_id, 'keys'])}>All keys</a></p>
    <${Loaded} of=${key} what="the key">${({ features, rotation }) => item === undefined
      ? html`<p class="notice bad">This key does not exist.</p>`
      : html`
        ${usage.value && html`<${Anomalies} items=${usage.value.anomalies} />`}
        <${Facts} item=${item} features=${features} />
        <${Actions} path=${path} item=${item} features=${features} onDone=${reload}
          canRotate=${rotation !== undefined && item.status === 'active'} onKey=${onKey} />
        ${rotation?.some((row) => !row.is_new) && html`<${Rotation} org=${org} items=${rotation} onDone=${reload} />`}
        <h2>Uses</h2>
        <div class="buttons" role="group" aria-label="Period">
          ${Object.entries(PERIODS).map(([each, text]) => html`<button type="button"
            aria-pressed=${Number(each) === days ? 'true' : 'false'}
            onClick=${() => replace([org.org_id, 'keys', keyId], { days: each })}>${text}</button>`)}
        </div>
        <${Loaded} of=${usage} what="the history">${(value) => html`<${History} ...${value} />`}<//>
        <h2>What was done with it</h2>
        <${AuditTrail} key=${changes} org=${org} keyId=${keyId} />`}
    <//>
  <//>`;
}
