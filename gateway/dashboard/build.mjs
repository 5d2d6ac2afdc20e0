// Build the dashboard into built/: one script, one style sheet, the licenses of what is
// in the script, and the page.  The names of files have a digest of their content, so
// that browsers may keep them for ever.
//
// built/ is replaced only when everything has been built.

import crypto from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

import esbuild from 'esbuild';

const HERE = path.dirname(fileURLToPath(import.meta.url));
const SOURCE = path.join(HERE, 'source');
const BUILT = path.join(HERE, 'built');
const UNFINISHED = path.join(HERE, 'built.new');

function read(...names) {
  return fs.readFileSync(path.join(...names), 'utf8');
}

// Write a file whose name has a digest of its content.  Returns the name.
function write(stem, extension, content) {
  const digest = crypto.createHash('sha256').update(content).digest('hex').slice(0, 16);
  const name = `${stem}-${digest}${extension}`;

  fs.writeFileSync(path.join(UNFINISHED, name), content);
  return name;
}

async function bundle(entry) {
  return esbuild.build({
    absWorkingDir: HERE,
    entryPoints: [entry],
    bundle: true,
    minify: true,
    write: false,
    metafile: true,
    format: 'esm',
    platform: 'browser',
    target: ['es2022'],
    legalComments: 'none',
    logLevel: 'warning',
  });
}

// The folders of the packages whose code is in a bundle.
function packagesOf({ metafile }) {
  const used = Object.values(metafile.outputs)
    .flatMap(({ inputs }) => Object.entries(inputs))
    .filter(([, { bytesInOutput }]) => bytesInOutput > 0)
    .map(([file]) => /^.*node_modules\/(?:@[^/]+\/)?[^/]+/.exec(file)?.[0])
    .filter((folder) => folder !== undefined);

  return [...new Set(used)].sort();
}

// What their licenses demand that we pass on.  A package without the text of its license
// has that of another package with the same one.
function licensesOf(folders) {
  const packages = folders.map((folder) => {
    const { name, version, license, author } = JSON.parse(read(HERE, folder, 'package.json'));
    const file = fs.readdirSync(path.join(HERE, folder)).find((each) => /^licen[cs]e/i.test(each));

    return {
      license,
      title: [`${name} ${version}`, license, author?.name ?? author].filter(Boolean).join(', '),
      text: file && read(HERE, folder, file).trim(),
    };
  });
  const texts = new Map();

  for (const { license, title, text } of packages) {
    const found = text ?? packages.find((each) => each.license === license && each.text)?.text;

    if (found === undefined) {
      throw new Error(`there is no text of the license of ${title}`);
    }
    texts.set(found, [...(texts.get(found) ?? []), title]);
  }
  return [...texts].map(([text, titles]) => `${titles.join('\n')}\n\n${text}\n`)
    .join(`\n${'-'.repeat(72)}\n\n`);
}

fs.rmSync(UNFINISHED, { recursive: true, force: true });
fs.mkdirSync(UNFINISHED);

const script = await bundle('source/main.mjs');
const style = await bundle('source/style.css');
const licenses = write('licenses', '.txt', licensesOf(packagesOf(script)));
const scriptName = write('dashboard', '.js',
  `/* The licenses of what is in here are in ${licenses} */\n${script.outputFiles[0].text}`);
const styleName = write('dashboard', '.css', style.outputFiles[0].text);

fs.writeFileSync(path.join(UNFINISHED, 'index.html'),
  read(SOURCE, 'index.html').replace('STYLE', styleName).replace('SCRIPT', scriptName));
fs.rmSync(BUILT, { recursive: true, force: true });
fs.renameSync(UNFINISHED, BUILT);
