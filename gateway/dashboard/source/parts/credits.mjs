// The prepaid credits of an organization: what is left, what is held, and the ledger.

import { get } from '../api.mjs';
import { html } from '../html.mjs';
import { csv, save } from '../save.mjs';
import { announce } from './announce.mjs';
import { ActionButton, Loaded, Problem, useAction } from './load.mjs';
import { Moment } from './moment.mjs';
import { pageQuery, readAllPages, usePages } from './pages.mjs';
import { Rows } from './rows.mjs';

const PAGE = 50;

const KINDS = { grant: 'granted', spend: 'spent', settle: 'settled' };

async function download(read) {
  const { items, isAll } = await readAllPages(read);

  save('credits.csv', csv([['entry', 'time', 'kind', 'amount', 'balance', 'request_id', 'detail'],
    ...items.map((row) => [row.entry, row.at, row.kind, row.amount, row.balance, row.request_id, row.detail])]), 'text/csv');
  announce(isAll ? 'Downloaded the ledger.' : `Downloaded the latest ${items.length} rows.`);
}

function signed(amount) {
  return amount.toLocaleString('en', { signDisplay: 'exceptZero' });
}

function Account({ of: { balance, held, available } }) {
  const facts = [['Available', available], ['Held for work that is not done', held], ['Balance', balance]];

  return html`${available === 0 && html`<p class="notice bad">There are no credits left to spend.</p>`}
    <dl class="facts">${facts.map(([name, value]) => html`<div><dt>${name}</dt><dd>${value.toLocaleString('en')}</dd></div>`)}</dl>`;
}

function Holds({ of: { held, holds } }) {
  const shown = holds.reduce((sum, { amount }) => sum + amount, 0);

  return html`<h3>Held</h3>
    <${Rows} label="Held credits" names=${['Request', 'Credits', 'Since', 'Ends']} numeric=${[1]}
      rows=${holds.map((hold) => [hold.request_id, hold.amount.toLocaleString('en'), html`<${Moment} at=${hold.created_at} />`,
        html`<${Moment} at=${hold.expires_at} />`])} />
    ${shown < held && html`<p class="hint">Those that end first. ${(held - shown).toLocaleString('en')} more are held for other requests.</p>`}`;
}

export function Credits({ org }) {
  const read = (cursor, limit = PAGE) => get(`/organizations/${org.org_id}/credits?${pageQuery(cursor, limit)}`);
  const { first, more, hasMore, reading } = usePages(read, [org.org_id]);
  const downloading = useAction(() => download(read));

  return html`<h2>Credits</h2>
    <${Loaded} of=${first} what="the credits">${(account) => account.items.length === 0
      ? html`<p class="notice">This organization never got any credits.</p>`
      : html`<${Account} of=${account} />
        ${account.holds.length > 0 && html`<${Holds} of=${account} />`}
        <h3>Ledger</h3>
        <${Rows} label="Ledger" names=${['When', 'What', 'Amount', 'Balance', 'Request', 'Details']} numeric=${[2, 3]}
          rows=${[...account.items, ...more].map((row) => [html`<${Moment} at=${row.at} />`, KINDS[row.kind] ?? row.kind,
            signed(row.amount), row.balance.toLocaleString('en'), row.request_id, row.detail])} />
        <div class="buttons">${hasMore && html`<${ActionButton} action=${reading}>Older<//>`}
          <${ActionButton} action=${downloading}>Download the ledger as CSV<//></div>
        <${Problem} of=${reading} /><${Problem} of=${downloading} />`}<//>`;
}
