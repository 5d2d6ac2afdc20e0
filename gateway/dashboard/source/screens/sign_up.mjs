// Signing up for the API: a new organization, or one that the person is a member of.

import { useRef, useState } from 'preact/hooks';

import { RequestKey, call } from '../api.mjs';
import { html } from '../html.mjs';
import { Choice, Field } from '../parts/field.mjs';
import { ActionButton, Problem, useAction } from '../parts/load.mjs';
import { Screen } from '../parts/screen.mjs';
import { Join } from './join.mjs';
import { VerifyEmail } from './verify_email.mjs';

const NEW = '';

// What the API takes unless told otherwise.
const DEFAULT_TIER = 'free';

// "organizations" are those of the person; "onKey" gets the answer, with the secret, and
// "onJoined" the organization that the person has joined instead.
export function SignUp({ person, features, organizations, onKey, onJoined }) {
  const possible = organizations.filter((org) => org.api_access_since === null && org.closed_at === null);
  const [existing, setExisting] = useState(NEW);
  const [orgName, setOrgName] = useState('');
  const tiers = features.tierChoices;
  const [tier, setTier] = useState(tiers.includes(DEFAULT_TIER) ? DEFAULT_TIER : tiers[0]);
  const [keyName, setKeyName] = useState('primary');
  const requestKey = useRef(new RequestKey());
  const signing = useAction(async () => {
    const body = {
      ...(existing === NEW ? { org_name: orgName, tier } : { existing_org_id: existing }), key_name: keyName,
    };

    onKey(await call('POST', '/signup', body, requestKey.current.for(body)));
  });

  function submit(event) {
    event.preventDefault();
    signing.run();
  }

  return html`<${Screen} title="Sign up for the API">
    ${features.needsVerifiedEmail && !person.isVerified && html`<${VerifyEmail} person=${person} />`}
    <form class="narrow" onSubmit=${submit}>
      ${possible.length > 0 && html`<${Choice} id="existing" label="For" value=${existing} onInput=${setExisting}
        options=${[[NEW, 'a new organization'], ...possible.map((org) => [org.org_id, org.name])]} />`}
      ${existing === NEW && html`<${Field} id="org-name" name="org_name" label="Name of the organization" required
        maxlength="100" autocomplete="organization" value=${orgName} onInput=${setOrgName} error=${signing.error} />`}
      ${existing === NEW && tiers.length > 1 && html`<${Choice} id="tier" label="Plan" value=${tier} onInput=${setTier}
        options=${tiers.map((each) => [each, each])} />`}
      <${Field} id="key-name" name="key_name" label="Name of the first key" required maxlength="64" autocomplete="off"
        hint="One key for each service or environment limits what a leak can do." value=${keyName} onInput=${setKeyName}
        error=${signing.error} />
      <${Problem} of=${signing} />
      <div class="buttons"><${ActionButton} type="submit" kind="main" action=${signing}>Sign up<//></div>
    </form>
    <${Join} onJoined=${onJoined} />
  <//>`;
}
