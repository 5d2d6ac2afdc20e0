// Creating a key.  What the service does not offer is not there.

import { useRef, useState } from 'preact/hooks';

import { RequestKey, call, get } from '../api.mjs';
import { html } from '../html.mjs';
import { featuresOf } from '../key_state.mjs';
import { Choice, Field } from '../parts/field.mjs';
import { ActionButton, Loaded, Problem, useAction, useResource } from '../parts/load.mjs';
import { Screen } from '../parts/screen.mjs';
import { hashOf } from '../route.mjs';
import { DAY, rfc3339 } from '../times.mjs';

const NEVER = '';
const EXPIRIES = [[NEVER, 'never'], ['7', 'in 7 days'], ['30', 'in 30 days'], ['90', 'in 90 days'], ['365', 'in a year']];

const LIVE = 'live';

// The addresses of a text: one a line, or separated by commas or spaces.
function addressesOf(text) {
  const addresses = text.split(/[\s,]+/).filter(Boolean);

  return addresses.length > 0 ? addresses : null;
}

function Form({ org, features, onKey }) {
  const [name, setName] = useState('');
  const [expiry, setExpiry] = useState(NEVER);
  const [addresses, setAddresses] = useState('');
  const [environment, setEnvironment] = useState(LIVE);
  const requestKey = useRef(new RequestKey());
  // A repetition has to say the same time.
  const opened = useRef(Date.now());
  const creating = useAction(async () => {
    const body = { name };

    if (features.environments) {
      body.environment = environment;
    }
    if (expiry !== NEVER) {
      body.expires_at = rfc3339(opened.current + expiry * DAY);
    }
    if (features.addresses) {
      body.allowed_addresses = addressesOf(addresses);
    }
    onKey(await call('POST', `/organizations/${org.org_id}/api-keys`, body, requestKey.current.for(body)));
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
      onInput=${setEnvironment} options=${[[LIVE, 'live'], ['test', 'test: not billed, and refused in production']]} />`}
    ${features.expiry && html`<${Choice} id="expiry" label="Expires" value=${expiry} onInput=${setExpiry}
      options=${EXPIRIES} />`}
    ${features.addresses && html`<${Field} id="addresses" name="allowed_addresses" label="Allowed addresses"
      autocomplete="off" hint="Addresses and networks, such as 192.0.2.0/24; empty for all" value=${addresses}
      onInput=${setAddresses} error=${creating.error} />`}
    <${Problem} of=${creating} />
    <div class="buttons">
      <${ActionButton} type="submit" kind="main" action=${creating}>Create the key<//>
      <a class="button" href=${hashOf([org.org_id, 'keys'])}>Cancel</a>
    </div>
  </form>`;
}

export function CreateKey({ org, onKey }) {
  // The keys show which features there are.
  const features = useResource(async () =>
    featuresOf((await get(`/organizations/${org.org_id}/api-keys`)).items), [org.org_id]);

  return html`<${Screen} title="Create a key">
    <${Loaded} of=${features} what="the form">${(value) =>
      html`<${Form} org=${org} features=${value} onKey=${onKey} />`}<//>
  <//>`;
}
