// What people see of the limits of their organization and of its keys.

import { check, equal } from './browser.mjs';
import { browser, button, link, page, row, sql, visit } from './person.mjs';

const table = page.getByRole('table', { name: 'Limits' });

// The rows of the table, each as one line.
async function rows() {
  await table.waitFor();
  const texts = await table.locator('tbody tr').allInnerTexts();

  return texts.map((text) => text.replace(/\s+/g, ' ').trim());
}

function like(found, expected, name) {
  check(expected.test(found), name, found);
}

// An organization without limits, and then with some.
export async function limits({ org_id: orgId, key_id: keyId, secret }) {
  await link('Limits').click();
  await browser.heading('Limits');
  await page.getByText('There are no limits.').waitFor();
  await browser.look('no limits');

  await sql("SELECT overten_mint_key($1, 'batch', expires_at => now() + interval '30 days')", orgId);
  await sql("SELECT overten_set_limit('org', $1, 'in_12_hours', 10, '12 hours', 5), overten_set_limit('org', $1, 'per_month', 50, '1 month', per => 'org')", orgId);
  const [{ admitted }] = await sql('SELECT count(*)::int AS admitted FROM generate_series(1, 7) n, LATERAL overten_admit($1, 1 + n * 0)', secret);
  equal(admitted, 5, 'a key that uses up a limit');
  await page.reload();
  const [shared, own, other, ...more] = await rows();
  like(shared, /^all keys together 50 a month per_month 45 of 50 left when the period ends, \S.* 0$/, 'a quota that the keys share');
  like(own, /^primary 10 every 12 hours, 5 at once in_12_hours 0 of 5 left in [56] hours 2$/, 'a limit that is used up');
  like(other, /^batch 10 every 12 hours, 5 at once in_12_hours 5 of 5 left it is full 0$/, 'a limit that is full');
  equal(more.length, 0, 'there are no others');
  const bars = await page.locator('.left path').evaluateAll((paths) => paths.map((path) => path.getBBox().width / path.ownerSVGElement.viewBox.baseVal.width));
  equal(bars.map((width) => width.toFixed(2)).join(' '), '0.90 0.00 1.00', 'what is left, as bars');
  await browser.look('limits');

  await link('primary').click();
  await browser.heading('primary');
  const [first, second, ...others] = await rows();
  like(`${first}; ${second}`, /^all keys together .* 45 of 50 left .*; this key .* 0 of 5 left .* 2$/, 'the limits that count for one key');
  equal(others.length, 0, 'and those of no other');
  equal(new URL(page.url()).hash, `#/${orgId}/keys/${keyId}`, 'on the screen of the key');
  await browser.look('key with limits');
}

// A thousand keys, the last of which has a limit; and then all of them have.
export async function pagesOfLimits() {
  const [{ org_id: orgId, key_id: keyId }] = await sql(`SELECT org_id, key_id FROM overten_auth.api_keys JOIN overten_auth.orgs USING (org_id)
    WHERE orgs.name = 'Large' AND api_keys.name = 'key 1'`);
  const last = /^key 1 7 a second last 7 of 7 left it is full 0$/;

  await sql("SELECT overten_set_limit('key', $1, 'last', 7, '1 second')", keyId);
  await visit(orgId, 'limits');
  await browser.heading('Limits');
  like((await rows()).join('; '), last, 'a limit that is on a later page');
  equal(await button('More keys').count(), 0, 'which is the last one');
  await visit(orgId, 'keys', keyId);
  await browser.heading('key 1');
  like((await rows()).join('; '), /^this key 7 a second last /, 'it is on the screen of its key');

  await sql("SELECT overten_set_limit('org', $1, 'per_day', 60000, '1 day')", orgId);
  await visit(orgId, 'limits');
  await row(/^key 1000 60,000 a day per_day 60,000 of 60,000 left when the period ends/).waitFor();
  equal((await rows()).length, 50, 'a page of limits');
  await button('More keys').click();
  await row(/^key 950 /).waitFor();
  equal(new Set(await rows()).size, 100, 'and the next one');
  await browser.look('many limits');
}
