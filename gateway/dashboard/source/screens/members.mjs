// Who belongs to the organization, and invitations to it.

import { useRef, useState } from 'preact/hooks';

import { RequestKey, call, get } from '../api.mjs';
import { html } from '../html.mjs';
import { announce } from '../parts/announce.mjs';
import { count } from '../parts/bars.mjs';
import { CopyButton } from '../parts/copy.mjs';
import { Dialog } from '../parts/dialog.mjs';
import { Field } from '../parts/field.mjs';
import { ActionButton, Loaded, Problem, useAction, useResource } from '../parts/load.mjs';
import { Moment } from '../parts/moment.mjs';
import { Rows } from '../parts/rows.mjs';
import { Screen } from '../parts/screen.mjs';

function Removal({ path, member, isSelf, onDone, onClose }) {
  const removing = useAction(async () => {
    await call('DELETE', `${path}/members/${encodeURIComponent(member.uid)}`);
    onDone();
  });

  return html`<${Dialog} title=${isSelf ? 'Leave the organization' : 'Remove a member'} onClose=${onClose}>
    <p>${isSelf ? 'You' : html`<code>${member.uid}</code>`} can no longer manage its keys.
      ${member.active_keys > 0 && html` ${count(member.active_keys, 'active key')} created by
        ${isSelf ? 'you' : 'this person'} stay good: revoke those that have to go.`}</p>
    <${Problem} of=${removing} />
    <div class="buttons">
      <button type="button" data-focus onClick=${onClose}>Cancel</button>
      <${ActionButton} kind="danger" action=${removing}>${isSelf ? 'Leave' : 'Remove'}<//>
    </div>
  <//>`;
}

// The code of a new invitation is shown once, as a secret is.  The parent holds it: what a
// component has rendered stays in memory until its parent is rendered.
function Invite({ path, code, onCode }) {
  const [note, setNote] = useState('');
  const requestKey = useRef(new RequestKey());
  const inviting = useAction(async () => {
    const body = note === '' ? {} : { note };
    const answer = await call('POST', `${path}/invitations`, body, requestKey.current.for(body));

    requestKey.current.forget();
    setNote('');
    onCode(answer.code);
  });

  function submit(event) {
    event.preventDefault();
    inviting.run();
  }

  if (code !== undefined) {
    return html`<div class="notice"><p><strong>Send this code to the person.</strong> It is shown only once, and
      whoever has it can join.</p>
      <p><code>${code}</code></p>
      <div class="buttons"><${CopyButton} text=${code} what="code" />
        <button type="button" onClick=${() => onCode(undefined)}>I have sent it</button></div></div>`;
  }
  return html`<form class="narrow" onSubmit=${submit}>
    <${Field} id="note" name="note" label="For whom" autocomplete="off" hint="A note for yourselves; it may be empty"
      value=${note} onInput=${setNote} error=${inviting.error} />
    <${Problem} of=${inviting} />
    <div class="buttons"><${ActionButton} type="submit" action=${inviting}>Invite<//></div>
  </form>`;
}

function Withdrawal({ path, item, onDone }) {
  const withdrawing = useAction(async () => {
    await call('DELETE', `${path}/invitations/${item.invitation_id}`);
    announce('Withdrew the invitation.');
    onDone();
  });

  return html`<${ActionButton} action=${withdrawing}>Withdraw<span class="unseen"> ${item.note}</span><//>
    <${Problem} of=${withdrawing} />`;
}

export function Members({ org, person, onLeft }) {
  const path = `/organizations/${org.org_id}`;
  const [removed, setRemoved] = useState();
  const [code, setCode] = useState();
  const members = useResource(async () => (await get(`${path}/members`)).items, [path]);
  const invitations = useResource(async () => (await get(`${path}/invitations`)).items, [path]);

  function invited(next) {
    setCode(next);
    invitations.reload();
  }

  async function done() {
    const isSelf = removed.uid === person.uid;

    setRemoved(undefined);
    announce(isSelf ? 'You have left.' : 'Removed the member.');
    await (isSelf ? onLeft() : members.reload());
    requestAnimationFrame(() => document.querySelector('h1')?.focus());
  }

  return html`<${Screen} title="Members">
    <${Loaded} of=${members} what="the members">${(items) => html`
      <${Rows} label="Members" names=${['Person', 'Since', 'Active keys', 'Change']} numeric=${[2]}
        rows=${items.map((member) => [member.uid === person.uid ? `${person.email} (you)` : html`<code>${member.uid}</code>`,
          html`<${Moment} at=${member.added_at} />`, member.active_keys,
          html`<button type="button" onClick=${() => setRemoved(member)}>${member.uid === person.uid ? 'Leave…' : 'Remove…'}</button>`])} />`}<//>
    <h2>Invitations</h2>
    <${Loaded} of=${invitations} what="the invitations">${(items) => items.length === 0
      ? html`<p>Nobody is invited at the moment.</p>`
      : html`<${Rows} label="Invitations" names=${['For', 'Created', 'Expires', 'Change']}
        rows=${items.map((item) => [item.note ?? '', html`<${Moment} at=${item.created_at} />`,
          html`<${Moment} at=${item.expires_at} />`,
          html`<${Withdrawal} path=${path} item=${item} onDone=${invitations.reload} />`])} />`}<//>
    <${Invite} path=${path} code=${code} onCode=${invited} />
    ${removed && html`<${Removal} path=${path} member=${removed} isSelf=${removed.uid === person.uid} onDone=${done}
      onClose=${() => setRemoved(undefined)} />`}
  <//>`;
}
