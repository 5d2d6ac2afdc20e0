// What people do with an organization.

import { csv } from '../../gateway/dashboard/source/save.mjs';
import { check, equal } from './browser.mjs';
import {
  browser, button, downloadBy, focusIs, link, nowhere, page, region, row, signIn, sql, verify,
} from './person.mjs';

// What the whole organization did, and another person who joins and leaves it.
export async function organization() {
  const [, orgId] = new URL(page.url()).hash.split('/');
  const [{ secret }] = await sql("SELECT secret FROM overten_mint_key($1, '=1+1')", orgId);
  equal(await verify(secret), 200, 'a key whose name is a formula');
  await link('Usage').click();
  await browser.heading('Usage');
  await page.getByRole('img', { name: /^Uses by day: [0-9,]+ uses accepted/ }).waitFor();
  await browser.look('usage');
  const table = await downloadBy(() => button('Download by day as CSV').click());
  check(/^usage-\d{4}-\d\d\.csv: "key_id","name","prefix","day","accepted","refused"\r\n(?:"key_\w+","[^"]+","sk_live_\w{4}","[0-9-]{10}","\d+","\d+"\r\n)+$/.test(table),
    'the usage can be downloaded', table);
  check(table.includes(`,"'=1+1",`) && !/(?:^|,)"[=+@-]/m.test(table), 'nothing in it is a formula', table);
  equal(csv([['=1', '+1', '-1', '@a', '\t1', '\r1', '\n1', '＝1', '＋1', '－1', '＠1', -1, 'a"b', null]]),
    `"'=1","'+1","'-1","'@a","'\t1","'\r1","'\n1","'＝1","'＋1","'－1","'＠1","-1","a""b",""\r\n`, 'whatever it begins with');
  await page.getByLabel('Month').selectOption({ index: 2 });
  await page.getByText('There was no use in this month.').waitFor();
  await link('Audit log').click();
  await browser.heading('Audit log');
  await page.getByRole('region', { name: 'Audit log' }).getByText('disable key').waitFor();
  await browser.look('audit log');
  const log = await downloadBy(() => button('Download the audit log as CSV').click());
  const [{ rows }] = await sql("SELECT count(*)::int AS rows FROM overten_auth.audit_log WHERE org_id = $1", orgId);
  check(log.startsWith('audit-log.csv: "time","action","key_id","uid","detail"\r\n') && log.includes('"In the log of the build"'), 'the audit log can be downloaded', log);
  equal(log.split('\r\n').length - 2, rows, 'with all of its rows');

  await link('Members').click();
  await browser.heading('Members');
  await page.getByText('grace@example.com (you)').waitFor();
  await page.getByText('Nobody is invited at the moment.').waitFor();
  await page.getByLabel('For whom').fill('Eve');
  await button('Invite').click();
  const code = await page.locator('.notice code').textContent();
  await page.getByRole('region', { name: 'Invitations' }).getByText('Eve').first().waitFor();
  await browser.look('members');
  await button('I have sent it').click();
  await nowhere(code, 'after inviting');

  await button('Sign out').click();
  await browser.heading('Sign in');
  await button('Create an account').click();
  await page.getByLabel('Email address').fill('eve@example.com');
  await page.getByLabel('Password').fill('first-compiler');
  await button('Create an account').click();
  await page.getByLabel('Code of the invitation').fill('inv_nothing');
  await button('Join').click();
  await page.locator('form').nth(1).getByRole('alert').getByText(/./).waitFor();
  browser.expectComplaints('404 (Not Found)', '400 (Bad Request)');
  await page.getByLabel('Code of the invitation').fill(` ${code} `);
  await button('Join').click();
  await browser.heading('Keys');
  await page.getByRole('row', { name: /primary/ }).waitFor();
  await link('Members').click();
  await button('Leave…').click();
  await browser.look('leave');
  await focusIs('Cancel', 'Cancel has the focus, too');
  await button('Leave').click();
  await browser.heading('Sign up for the API');
  await button('Sign out').click();
  await signIn(page, 'grace@example.com');
  await browser.heading('Keys');
}

export async function signOut() {
  await button('Sign out').click();
  await browser.heading('Sign in');
  equal(await page.evaluate(() => JSON.stringify({ ...localStorage, ...sessionStorage })), '{}', 'signing out leaves nothing');
  equal(await page.evaluate(async () => `${document.cookie} ${(await indexedDB.databases()).map(({ name }) => name)} ${await caches.keys()}`),
    ' firebase-heartbeat-database ', 'but the days on which the SDK was used');
}
