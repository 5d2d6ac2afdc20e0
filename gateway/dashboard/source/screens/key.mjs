// One key: what is wrong with it, what it was used for, and what was done with it.

import { useState } from 'preact/hooks';

import { call, get } from '../api.mjs';
import { html } from '../html.mjs';
import { isRevoked } from '../key_state.mjs';
import { pathOf, readKey } from '../one_key.mjs';
import { announce } from '../parts/announce.mjs';
import { Anomalies } from '../parts/anomalies.mjs';
import { AuditTrail } from '../parts/audit_trail.mjs';
import { KeyLimits } from '../parts/key_limits.mjs';
import { Uses, useUses } from '../parts/key_uses.mjs';
import { ActionButton, Loaded, Problem, useAction, useResource } from '../parts/load.mjs';
import { Moment } from '../parts/moment.mjs';
import { Rotation } from '../parts/rotation.mjs';
import { Screen } from '../parts/screen.mjs';
import { Status } from '../parts/status.mjs';
import { hashOf } from '../route.mjs';
import { RevokeKey } from './revoke_key.mjs';
import { RotateKey } from './rotate_key.mjs';

// The features with something that can be changed on a screen of its own.
const CHANGING = ['details', 'expiry', 'addresses', 'scopes'];

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
    ...(features.scopes ? [['Scopes', item.scopes?.join(', ') ?? 'all']] : []),
    ...(isRevoked(item) ? [['Revoked', html`<${Moment} at=${item.revoked_at} />`]] : []),
    ...(item.revoked_reason ? [['Why', item.revoked_reason]] : []),
    ...(features.details ? [['Description', item.description ?? 'none'],
      ['Metadata', item.metadata === null ? 'none' : html`<code>${JSON.stringify(item.metadata)}</code>`]] : []),
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

function Actions({ org, path, item, features, canRotate, onSecret, onDone }) {
  const [isRevoking, setIsRevoking] = useState(false);
  const [isRotating, setIsRotating] = useState(false);
  const isDisabled = Boolean(item.disabled_at);

  function done(text) {
    setIsRevoking(false);
    announce(text);
    onDone();
  }

  const place = [org.org_id, 'keys', item.key_id];
  const leaked = html`<a class="button danger" href=${hashOf([...place, 'leaked'])}>It leaked…</a>`;

  if (isRevoked(item)) {
    return html`<div class="buttons">${leaked}</div>`;
  }
  return html`<div class="buttons">
    ${CHANGING.some((name) => features[name]) && html`<a class="button" href=${hashOf([...place, 'change'])}>Change…</a>`}
    ${isDisabled && html`<${Enabling} path=${path} item=${item} onDone=${done} />`}
    ${canRotate && html`<button type="button" onClick=${() => setIsRotating(true)}>Rotate…</button>`}
    <button type="button" class="danger" onClick=${() => setIsRevoking(true)}>Revoke…</button>
    ${leaked}
  </div>
  ${isRotating && html`<${RotateKey} path=${path} item=${item} onKey=${onSecret} onClose=${() => setIsRotating(false)} />`}
  ${isRevoking && html`<${RevokeKey} path=${path} item=${item} canDisable=${features.disable && !isDisabled}
    onDone=${done} onClose=${() => setIsRevoking(false)} />`}`;
}

// The key that a rotation has made.  It has the limits of the old one, too, and the API
// lists them under its id.
function newestOf(rotation) {
  return rotation.find((row) => row.is_new)?.key_id;
}

async function readAll(org, keyId, features) {
  const item = await readKey(org, keyId, features);

  return {
    item,
    rotation: item && features.rotation ? (await get(`${pathOf(org, keyId)}/rotation`)).items : [],
  };
}

export function Key({ org, features, keyId, query, onSecret }) {
  const path = pathOf(org, keyId);
  const key = useResource(() => readAll(org, keyId, features), [path]);
  const uses = useUses(path, query.get('days'));
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
    <${Loaded} of=${key} what="the key">${({ rotation }) => item === undefined
      ? html`<p class="notice bad">This key does not exist.</p>`
      : html`
        ${uses.usage.value && html`<${Anomalies} items=${uses.usage.value.anomalies} />`}
        <${Facts} item=${item} features=${features} />
        <${Actions} org=${org} path=${path} item=${item} features=${features} onDone=${reload}
          canRotate=${features.rotation && item.status === 'active'} onSecret=${onSecret} />
        ${rotation.some((row) => !row.is_new) && html`<${Rotation} org=${org} items=${rotation} onDone=${reload} />`}
        ${!isRevoked(item) && html`<${KeyLimits} org=${org} keyId=${newestOf(rotation) ?? keyId} />`}
        <h2>Uses</h2>
        <${Uses} of=${uses} item=${item} place=${[org.org_id, 'keys', keyId]} />
        <h2>What was done with it</h2>
        <${AuditTrail} key=${changes} org=${org} keyId=${keyId} />`}
    <//>
  <//>`;
}
