// Creating a key, also one like another.  What the service does not offer is not there.

import { useRef, useState } from 'preact/hooks';

import { RequestKey, call } from '../api.mjs';
import { html } from '../html.mjs';
import { readKey } from '../one_key.mjs';
import { Choice, Field } from '../parts/field.mjs';
import { ActionButton, Loaded, Problem, useAction, useResource } from '../parts/load.mjs';
import { Addresses, Expiry, SAME, Scopes, addressesOf, expiryOf } from '../parts/restrictions.mjs';
import { Screen } from '../parts/screen.mjs';
import { hashOf } from '../route.mjs';
import { distance } from '../times.mjs';

const ENVIRONMENTS = { live: 'live', test: 'test: not billed, and refused in production' };

// What a new key gets that is given no expiry.
function withoutExpiry({ longestLife }) {
  return longestLife === Infinity ? 'never' : `${distance(Date.now() + longestLife)}, the latest possible`;
}

// "model" is the key that the new one is to be like, or undefined.
function Form({ org, features, model, onSecret }) {
  const [name, setName] = useState(model?.name ?? '');
  const [expiry, setExpiry] = useState(SAME);
  const [addresses, setAddresses] = useState(model?.allowed_addresses?.join(', ') ?? '');
  const [scopes, setScopes] = useState(model?.scopes ?? null);
  const [environment, setEnvironment] = useState(model?.environment ?? features.environmentChoices[0]);
  const requestKey = useRef(new RequestKey());
  const opened = useRef(Date.now());
  const creating = useAction(async () => {
    const body = { name };

    if (features.environments) {
      body.environment = environment;
    }
    if (expiry !== SAME) {
      body.expires_at = expiryOf(expiry, opened.current);
    }
    if (features.addresses) {
      body.allowed_addresses = addressesOf(addresses);
    }
    if (features.scopes) {
      body.scopes = scopes;
    }
    onSecret(await call('POST', `/organizations/${org.org_id}/api-keys`, body, requestKey.current.for(body)));
  });

  function submit(event) {
    event.preventDefault();
    creating.run();
  }

  return html`<form class="narrow" onSubmit=${submit}>
    <${Field} id="name" name="name" label="Name" required maxlength="64" autocomplete="off"
      hint="Such as the service and the environment that will use it" value=${name} onInput=${setName}
      error=${creating.error} />
    ${features.environments && html`<${Choice} id="environment" label="Environment" value=${environment}
      onInput=${setEnvironment} options=${features.environmentChoices.map((each) => [each, ENVIRONMENTS[each]])} />`}
    ${features.expiry && html`<${Expiry} features=${features} same=${withoutExpiry(features)} value=${expiry}
      onInput=${setExpiry} />`}
    ${features.addresses && html`<${Addresses} value=${addresses} onInput=${setAddresses} error=${creating.error} />`}
    ${features.scopes && html`<${Scopes} features=${features} value=${scopes} onInput=${setScopes} />`}
    <${Problem} of=${creating} />
    <div class="buttons">
      <${ActionButton} type="submit" kind="main" action=${creating}>Create the key<//>
      <a class="button" href=${hashOf([org.org_id, 'keys'])}>Cancel</a>
    </div>
  </form>`;
}

export function CreateKey({ org, features, query, onSecret }) {
  const like = query.get('like');
  const model = useResource(async () => ({ key: like === null ? undefined : await readKey(org, like, features) }),
    [org.org_id, like]);

  return html`<${Screen} title="Create a key">
    <${Loaded} of=${model} what="the form">${({ key }) => html`<${Form} org=${org} features=${features} model=${key}
      onSecret=${onSecret} />`}<//>
  <//>`;
}
