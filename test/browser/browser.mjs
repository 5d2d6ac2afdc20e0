// A real browser before the dashboard, and everything that it says and sends.
//
// What a check finds is printed as "ok NAME" or "not ok NAME", with lines of # after it;
// the TAP test counts them.

import fs from 'node:fs';
import path from 'node:path';

import axe from 'axe-core';
import { chromium } from 'playwright-core';

// How long something may take before it counts as lost, in milliseconds.  A slow machine
// must not fail, so this is the limit of the whole harness.
export const TIMEOUT = 1000 * (Number(process.env.PG_TEST_TIMEOUT_DEFAULT) || 180);

// The ways in which each screen is looked at: first by all rules, then by those that
// depend on colors and sizes.
const ALL = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];
const LOOKS = [
  { name: 'light', colorScheme: 'light', width: 1100, height: 800, rules: ALL },
  { name: 'dark and narrow', colorScheme: 'dark', width: 320, height: 640,
    rules: ['color-contrast', 'target-size', 'scrollable-region-focusable', 'aria-hidden-focus', 'link-in-text-block'] },
];

// A browser of the system's, which starts with an empty profile and asks nobody but us.
// Its sandbox needs privileges that those who run tests do not have everywhere; it only
// gets to see our own page.
const LAUNCH = {
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-background-networking', '--disable-component-update',
    '--disable-default-apps', '--disable-sync', '--no-first-run', '--no-proxy-server'],
};

function print(word, name, details) {
  const lines = details === undefined ? [] : String(details).split('\n').map((line) => `# ${line}\n`);

  fs.writeSync(1, `${word} ${name}\n${lines.join('')}`);
}

export function check(holds, name, details) {
  print(holds ? 'ok' : 'not ok', name, holds ? undefined : details);
}

export function equal(found, expected, name) {
  check(found === expected, name, `found ${JSON.stringify(found)}, expected ${JSON.stringify(expected)}`);
}

export function note(text) {
  fs.writeSync(1, `# ${text}\n`);
}

// What axe could not decide is a finding, too, except the contrast of a text that is
// scrolled out of view in part, or that has a single character.
function findings({ violations, incomplete }) {
  const isHidden = ({ any }) => any.every(({ data }) => /^(?:elmPartiallyObscur|shortTextContent)/.test(data?.messageKey));
  const unclear = incomplete.filter(({ id }) => id === 'color-contrast')
    .map(({ id, nodes }) => ({ id, nodes: nodes.filter((node) => !isHidden(node)) }));

  return [...violations, ...unclear]
    .flatMap(({ id, nodes }) => nodes.map(({ html, failureSummary }) => `${id}: ${html}\n${failureSummary}`));
}

export class Browser {
  #browser;
  #pictures;

  // All requests, with what was sent; all URLs; what the console and the policy say.
  requests = [];
  places = new Set();
  complaints = [];

  // How long it takes until a page whose browser has nothing of it shows something, in
  // milliseconds.
  async firstLoad(url, something) {
    const context = await this.#browser.newContext();
    const page = await context.newPage();
    const started = performance.now();

    await page.goto(url);
    await something(page).waitFor({ timeout: TIMEOUT });
    const took = Math.round(performance.now() - started);
    await context.close();
    return took;
  }

  static async open(pictures) {
    const opened = new Browser();

    opened.#pictures = pictures;
    opened.#browser = await chromium.launch(LAUNCH);
    opened.context = await opened.#browser.newContext({
      viewport: LOOKS[0], permissions: ['clipboard-read', 'clipboard-write'], locale: 'en-US',
    });
    opened.page = await opened.newTab();
    return opened;
  }

  // Open a tab that is watched.
  async newTab() {
    const page = await this.context.newPage();

    page.setDefaultTimeout(TIMEOUT);
    page.on('request', (request) => this.requests.push({
      method: request.method(), url: request.url(), headers: request.headers(), body: request.postData(),
    }));
    page.on('framenavigated', (frame) => this.places.add(frame.url()));
    page.on('console', (message) => this.complaints.push(`${message.type()}: ${message.text()}`));
    page.on('pageerror', (error) => this.complaints.push(`error: ${error.message}`));
    await page.addInitScript(() => {
      addEventListener('securitypolicyviolation', ({ violatedDirective, blockedURI }) =>
        console.error(`policy: ${violatedDirective} ${blockedURI}`));
    });
    return page;
  }

  // The browser says of every answer with an error that there was one.  "expected" lists
  // those that the test has asked for; all other complaints stay.
  expectComplaints(...expected) {
    this.complaints = this.complaints.filter((text) => !expected.some((each) => text.includes(each)));
  }

  // All other complaints since the last call.
  takeComplaints(...expected) {
    this.expectComplaints(...expected);
    return this.complaints.splice(0).join('\n');
  }

  heading(name) {
    return this.page.getByRole('heading', { level: 1, name }).waitFor();
  }

  // Look at the screen in every way: nothing that the keyboard does not reach, no finding
  // by axe, nothing wider than the window, and a picture.
  async look(name) {
    const { page } = this;

    equal(await page.evaluate(() => [...document.querySelectorAll('a[href], button, input, select, textarea, summary')]
      .filter((each) => each.tabIndex < 0).map((each) => each.outerHTML).join('\n')),
    '', `${name}: the keyboard reaches everything`);
    await page.evaluate(axe.source);
    for (const { name: way, colorScheme, width, height, rules } of LOOKS) {
      await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
      await page.setViewportSize({ width, height });
      const found = findings(await page.evaluate((runOnly) => globalThis.axe.run({ runOnly, resultTypes: ['violations', 'incomplete'] }), rules));

      equal(found.join('\n'), '', `${name}, ${way}: axe finds nothing`);
      equal(await page.evaluate(() => document.scrollingElement.scrollWidth), width, `${name}, ${way}: nothing is too wide`);
      await page.screenshot({ path: path.join(this.#pictures, `${name}-${way}.png`.replaceAll(' ', '_')), fullPage: true });
    }
    await page.emulateMedia({ colorScheme: 'light' });
    await page.setViewportSize(LOOKS[0]);
  }

  // Everything that the page keeps or has sent, as one text.
  async traces() {
    const kept = await this.page.evaluate(async () => {
      const settled = (request) => new Promise((resolve, reject) => {
        request.onsuccess = () => resolve(request.result);
        request.onerror = () => reject(request.error);
      });
      // All stores of a database, with their keys and values.
      const contentOf = async ({ name, version }) => {
        const database = await settled(indexedDB.open(name, version));
        const stores = [...database.objectStoreNames];
        const found = stores.map((each) => database.transaction(each).objectStore(each))
          .flatMap((store) => [settled(store.getAllKeys()), settled(store.getAll())]);
        const values = await Promise.all(found);

        database.close();
        return [name, stores, values];
      };
      const databases = await Promise.all((await indexedDB.databases()).map(contentOf));

      return JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie, databases,
        document.documentElement.outerHTML, location.href, history.state, document.title, name,
        await caches.keys(), performance.getEntries()]);
    });

    return JSON.stringify([kept, [...this.places], this.requests, this.complaints]);
  }

  // The strings in the memory of the page's programs that contain a text.  What is no
  // longer needed may stay for a moment.
  async remembered(text) {
    const limit = performance.now() + TIMEOUT / 10;

    for (;;) {
      const snapshot = await this.#memory();

      // Reading it takes longer than taking it.
      if (!snapshot.includes(text)) {
        return [];
      }
      if (performance.now() > limit) {
        return JSON.parse(snapshot).strings.filter((each) => each.includes(text));
      }
    }
  }

  async #memory() {
    const session = await this.context.newCDPSession(this.page);
    const chunks = [];

    session.on('HeapProfiler.addHeapSnapshotChunk', ({ chunk }) => chunks.push(chunk));
    await session.send('HeapProfiler.enable');
    await session.send('HeapProfiler.collectGarbage');
    await session.send('HeapProfiler.takeHeapSnapshot', { reportProgress: false });
    await session.detach();
    return chunks.join('');
  }

  async close() {
    await this.#browser.close();
  }
}
