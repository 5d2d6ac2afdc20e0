// Changing a key: its name, what is said of it, and what restricts it.

import { useRef, useState } from 'preact/hooks';

import { call } from '../api.mjs';
import { html } from '../html.mjs';
import { isRevoked } from '../key_state.mjs';
import { pathOf, readKey } from '../one_key.mjs';
import { announce } from '../parts/announce.mjs';
import { Field } from '../parts/field.mjs';
import { ActionButton, Loaded, Problem, useAction, useResource } from '../parts/load.mjs';
import { Addresses, Expiry, NEVER, SAME, Scopes, addressesOf, expiryOf } from '../parts/restrictions.mjs';
import { Screen } from '../parts/screen.mjs';
import { go, hashOf } from '../route.mjs';
import { exact } from '../times.mjs';

// What a person has written is not JSON, so that the API cannot say so.
class MetadataError extends Error {
  param = 'metadata';

  constructor() {
    super('The metadata must be a JSON object, such as {"team": "billing"}.');
  }
}

function metadataOf(text) {
  if (text.trim() === '') {
    return null;
  }
  try {
    return JSON.parse(text);
  } catch {
    throw new MetadataError();
  }
}

function isSame(one, other) {
  return JSON.stringify(one) === JSON.stringify(other);
}

function Form({ org, features, item }) {
  const [name, setName] = useState(item.name);
  const [description, setDescription] = useState(item.description ?? '');
  const written = item.metadata === null ? '' : JSON.stringify(item.metadata, null, 2);
  const [metadata, setMetadata] = useState(written);
  const [expiry, setExpiry] = useState(SAME);
  const [addresses, setAddresses] = useState(item.allowed_addresses?.join(', ') ?? '');
  const [scopes, setScopes] = useState(item.scopes ?? null);
  const opened = useRef(Date.now());
  const place = [org.org_id, 'keys', item.key_id];
  const changing = useAction(async () => {
    const wanted = {
      ...(features.details && { name, description: description.trim() === '' ? null : description }),
      // The API keeps numbers that this page cannot: what nobody has changed stays as it is.
      ...(features.details && metadata !== written && { metadata: metadataOf(metadata) }),
      ...(features.expiry && expiry !== SAME && { expires_at: expiryOf(expiry, opened.current) }),
      ...(features.addresses && { allowed_addresses: addressesOf(addresses) }),
      ...(features.scopes && { scopes }),
    };
    const changes = Object.fromEntries(Object.entries(wanted).filter(([member, value]) => !isSame(value, item[member])));

    if (Object.keys(changes).length > 0) {
      await call('PATCH', pathOf(org, item.key_id), changes);
      announce(`Changed “${item.name}”.`);
    }
    go(place);
  });

  function submit(event) {
    event.preventDefault();
    changing.run();
  }

  return html`<form class="narrow" onSubmit=${submit}>
    ${features.details && html`
      <${Field} id="name" name="name" label="Name" required maxlength="64" autocomplete="off" value=${name}
        onInput=${setName} error=${changing.error} />
      <${Field} id="description" name="description" label="Description" maxlength="500" autocomplete="off"
        hint="What uses it, and whom to ask" value=${description} onInput=${setDescription} error=${changing.error} />
      <${Field} id="metadata" as="textarea" name="metadata" label="Metadata" rows="4" spellcheck="false"
        hint=${'A JSON object for your own programs, such as {"team": "billing"}; empty for none'} value=${metadata}
        onInput=${setMetadata} error=${changing.error} />`}
    ${features.expiry && html`<${Expiry} features=${features} value=${expiry} onInput=${setExpiry}
      same=${item.expires_at === null ? 'as now: never' : `as now: ${exact(item.expires_at)}`}
      others=${item.expires_at === null ? [] : [[NEVER, 'never']]} />`}
    ${features.addresses && html`<${Addresses} value=${addresses} onInput=${setAddresses} error=${changing.error} />`}
    ${features.scopes && html`<${Scopes} features=${features} value=${scopes} onInput=${setScopes} />`}
    <${Problem} of=${changing} />
    <div class="buttons">
      <${ActionButton} type="submit" kind="main" action=${changing}>Save<//>
      <a class="button" href=${hashOf(place)}>Cancel</a>
    </div>
  </form>`;
}

export function ChangeKey({ org, features, keyId }) {
  const key = useResource(() => readKey(org, keyId, features).then((item) => ({ item })), [org.org_id, keyId]);

  return html`<${Screen} title="Change a key">
    <${Loaded} of=${key} what="the key">${({ item }) => {
      if (item === undefined) {
        return html`<p class="notice bad">This key does not exist.</p>`;
      }
      if (isRevoked(item) || !features.any) {
        return html`<p class="notice">This key does not change any more.</p>`;
      }
      return html`<p>${item.name} <code>${item.prefix}…</code></p><${Form} org=${org} features=${features} item=${item} />`;
    }}<//>
  <//>`;
}
