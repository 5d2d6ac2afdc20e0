// What people see of the credits of their organization.

import { check, equal } from './browser.mjs';
import { api, browser, button, downloadBy, page, region, sql, visit } from './person.mjs';

const heading = page.getByRole('heading', { name: 'Credits', exact: true });

// The rows of a table, each as one line.
async function rows(name) {
  await region(name).waitFor();
  const texts = await region(name).locator('tbody tr').allInnerTexts();

  return texts.map((text) => text.replace(/\s+/g, ' ').trim());
}

function facts() {
  return page.locator('dl.facts div').allInnerTexts().then((texts) => texts.map((text) => text.replace(/\s+/g, ' ')).join('; '));
}

// A service without credits; an organization that never got any; some; none left.
export async function credits(orgId) {
  await visit(orgId, 'usage');
  await page.getByRole('img', { name: /^Uses by day/ }).waitFor();
  equal(await heading.count(), 0, 'nothing is said of credits where there are none');

  await sql("SELECT overten_grant(org_id, 1) FROM overten_create_org('Elsewhere')");
  await page.reload();
  await page.getByText('This organization never got any credits.').waitFor();
  await browser.look('no credits');

  // This picture is one of docs/dashboard.md.
  await sql(`SELECT overten_grant($1, 5000, 'invoice 1107', 'payment 81'), overten_spend($1, 271, 'answer 1', '271 tokens'),
    overten_spend($1, 58, 'answer 2', '58 tokens'), overten_hold($1, 400, 'answer 3', '1 day')`, orgId);
  await page.reload();
  await heading.waitFor();
  const [second, first, granted, ...others] = await rows('Ledger');
  check(/^\S.* spent -58 4,671 answer 2 58 tokens$/.test(second), 'the last one comes first', second);
  check(/^\S.* spent -271 4,729 answer 1 271 tokens$/.test(first), 'what was spent', first);
  check(/^\S.* granted \+5,000 5,000 payment 81 invoice 1107$/.test(granted), 'what was granted', granted);
  equal(others.length, 0, 'and no more');
  equal(await facts(), 'Available 4,271; Held for work that is not done 400; Balance 4,671', 'what is left');
  const held = (await rows('Held credits')).join('; ');
  check(/^answer 3 400 just now.* in (?:1 day|23 hours)/.test(held), 'what is held', held);
  await browser.look('credits');

  await sql(`SELECT overten_grant($1, 1234567, '=HYPERLINK("http://example.com")', 'payment 82'), overten_spend($1, 67, 'request 1', '<b>pages</b>'),
    overten_spend($1, 500, 'request 2', '-1+1')`, orgId);
  await page.reload();
  await region('Ledger').getByText('<b>pages</b>', { exact: true }).waitFor();
  const table = await downloadBy(() => button('Download the ledger as CSV').click());
  const lines = table.split('\r\n');
  equal(lines[0], 'credits.csv: "entry","time","kind","amount","balance","request_id","detail"', 'the ledger can be downloaded');
  check(/^"6","[0-9TZ:-]+","spend","-500","1238671","request 2","'-1\+1"$/.test(lines[1]) && lines[3].endsWith(',"payment 82","\'=HYPERLINK(""http://example.com"")"'),
    'texts in it are no formulas, and numbers are numbers', table);

  // More rows than a page has, and more holds than are shown.
  await sql(`SELECT count(overten_spend($1, 1, 'many ' || n)), count(overten_hold($1, 2, 'long ' || n, '2 days')) FROM generate_series(1, 120) n`, orgId);
  await page.reload();
  equal((await rows('Ledger')).length, 50, 'a page of the ledger');
  equal((await rows('Held credits')).length, 100, 'the holds that end first');
  await page.getByText('42 more are held for other requests.').waitFor();
  await button('Older').click();
  await page.waitForFunction(() => document.querySelectorAll('[aria-label=Ledger] tbody tr').length > 50);
  await button('Older').click();
  await button('Older').waitFor({ state: 'detached' });
  const all = await rows('Ledger');
  equal(new Set(all.map((text) => / (many \d+|(?:request|answer|payment) \d+) /.exec(`${text} `)[1])).size, 126, 'all of it, page after page');
  equal((await downloadBy(() => button('Download the ledger as CSV').click())).split('\r\n').length, 128, 'and in the file');

  await sql(`SELECT count(overten_release($1, request_id)) FROM overten_auth.credit_holds WHERE org_id = $1`, orgId);
  await sql(`SELECT overten_spend($1, balance, 'all') FROM overten_credit_balance($1)`, orgId);
  await page.route(`${api}/**/credits?**`, (route) => route.fulfill({ status: 500, json: { error: { code: 'internal_error', message: 'x' } } }), { times: 1 });
  await page.reload();
  await page.getByText('Something is wrong with the service.').waitFor();
  await page.getByRole('img', { name: /^Uses by day/ }).waitFor();
  await browser.look('credits with an error');
  browser.expectComplaints('500 (Internal Server Error)');
  await button('Try again').click();
  await page.getByText('There are no credits left to spend.').waitFor();
  await browser.look('no credits left');
  equal(browser.takeComplaints(), '', 'credits: no complaint');
  await visit(orgId, 'members');
  await browser.heading('Members');
}
