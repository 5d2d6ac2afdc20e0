// The longest list and the longest history that there can be.

import { check, equal, note } from './browser.mjs';
import { browser, page, row, sql, url } from './person.mjs';

// A thousand keys, and a key with the longest history that there can be.
export async function largest(uid) {
  const [{ org_id: orgId }] = await sql("SELECT org_id FROM overten_create_org('Large')");
  await sql('SELECT overten_add_member($1, $2), overten_set_api_access($1, true)', orgId, uid);
  await sql(`SELECT overten_import_keys(array_agg($1::text), array_agg('key ' || n), array_agg(sha256(n::text::bytea)), array_agg('sk_live_' || lpad(n::text, 4, '0')),
    array_agg(now() - n * interval '1 minute')) FROM generate_series(1, 1000) n`, orgId);
  const [{ key_id: keyId }] = await sql("SELECT key_id FROM overten_auth.api_keys WHERE org_id = $1 AND name = 'key 500'", orgId);
  await sql(`INSERT INTO overten_auth.key_usage (key_id, hour, client_addr, accepted, refused, first_used_at, last_used_at)
    SELECT $1, hour, ('198.51.100.' || n)::inet, 3, 1, hour, hour + interval '1 minute'
    FROM generate_series(date_trunc('hour', now()) - interval '90 days', now(), interval '1 hour') hour, generate_series(1, 64) n`, keyId);
  await sql(`INSERT INTO overten_auth.key_usage (key_id, hour, client_addr, accepted, refused, first_used_at, last_used_at)
    VALUES ($1, date_trunc('hour', now()), '203.0.113.9', 7, 0, now(), now())`, keyId);

  let started = performance.now();
  await page.goto(`${url}#/${orgId}/keys`);
  await page.reload();
  await page.getByRole('row', { name: /key 1000/ }).waitFor();
  equal(await page.locator('tbody tr').count(), 1000, 'a thousand keys are listed');
  note(`a thousand keys: ${Math.round(performance.now() - started)} ms`);
  started = performance.now();
  await page.getByLabel('Search').fill('key 500');
  await page.waitForFunction(() => document.querySelectorAll('tbody tr').length === 1);
  note(`a search among them: ${Math.round(performance.now() - started)} ms`);
  await page.getByRole('img', { name: /^138,.* uses|^[0-9,]+ uses, [0-9]+ refused in 30 days$/ }).waitFor();
  started = performance.now();
  await page.goto(`${url}#/${orgId}/keys/${keyId}?days=30`);
  await page.getByRole('img', { name: /^Uses by hour: 138,[0-9]+ uses accepted/ }).waitFor();
  await page.getByRole('heading', { name: 'Used from a new address' }).waitFor();
  note(`the longest history: ${Math.round(performance.now() - started)} ms`);
  await page.getByRole('region', { name: 'Uses by address' }).getByText('198.51.100.64').waitFor();
  check(true, 'the longest history is shown');
  await browser.look('longest history');
}
