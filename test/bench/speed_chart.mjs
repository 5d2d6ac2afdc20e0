// speed_chart.mjs BENCHMARKS.md light|dark
//
// Draw README's chart on stdout as an SVG: keys verified a second from Node.js, by
// what people use today, by the extension, and SELECT 1 as the upper limit.
// The figures are those of the section below of docs/benchmarks.md.  There is one
// chart for a white page and one for a black one.

import fs from 'node:fs';

const SECTION = '### any of 100,000 keys';
const BARS = [
  { row: 'better-auth', label: 'application library (better-auth)' },
  { row: 'PL/pgSQL, last use once a minute', label: 'PL/pgSQL function' },
  { row: 'hand-written join', label: 'SQL join by hand' },
  { row: '`overten_verify_key`, uses counted', label: 'overten_auth', ours: true },
  { row: '`SELECT 1`', label: 'SELECT 1 (upper limit)', limit: true },
];
const COLOURS = {
  light: { text: '#1f2328', quiet: '#59636e', theirs: '#afb8c1', ours: '#0969da', limit: '#d8dee4' },
  dark: { text: '#f0f6fc', quiet: '#9198a1', theirs: '#656c76', ours: '#4493f8', limit: '#3d444d' },
};
const WIDTH = 720;
const BARS_AT = 250;
const BARS_WIDTH = 380;
const BAR = 26;
const LINE = 38;
const TOP = 62;

const [file, theme] = process.argv.slice(2);
const colours = COLOURS[theme];
const page = fs.readFileSync(file, 'utf8');
const from = page.indexOf(`\n${SECTION}\n`);

if (colours === undefined || from < 0) {
  throw new Error(`${file} has no section "${SECTION}", or "${theme}" is no theme`);
}

// The column "a second" of a row of the section's table.
function perSecond(row) {
  for (const line of page.slice(from).split('\n')) {
    const cells = line.split('|').map((cell) => cell.trim());

    if (cells[1] === row) return Number(cells[2].replaceAll(',', ''));
  }
  throw new Error(`${file} has no row "${row}"`);
}

const bars = BARS.map((bar) => ({ ...bar, value: perSecond(bar.row) }));
const scale = BARS_WIDTH / Math.max(...bars.map(({ value }) => value));
const height = TOP + bars.length * LINE + 30;
const parts = [];

bars.forEach(({ label, value, ours, limit }, index) => {
  const y = TOP + index * LINE;
  const fill = ours ? colours.ours : limit ? colours.limit : colours.theirs;
  const text = `fill="${limit ? colours.quiet : colours.text}"${ours ? ' font-weight="bold"' : ''}`;

  parts.push(`<text x="${BARS_AT - 12}" y="${y + 18}" text-anchor="end" ${text}>${label}</text>`);
  parts.push(`<rect x="${BARS_AT}" y="${y}" width="${(value * scale).toFixed(1)}" height="${BAR}" rx="3" fill="${fill}"/>`);
  parts.push(`<text x="${(BARS_AT + value * scale + 10).toFixed(1)}" y="${y + 18}" ${text}>${value.toLocaleString('en-US')}</text>`);
});

console.log(`<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" viewBox="0 0 ${WIDTH} ${height}" role="img"
  font-family="system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif" font-size="14">
<title>API keys verified per second, more is better</title>
<text x="16" y="26" font-size="17" font-weight="bold" fill="${colours.text}">API keys verified per second</text>
<text x="16" y="46" font-size="13" fill="${colours.quiet}">more is better; one Node.js process, 4 connections, any of 100,000 keys</text>
${parts.join('\n')}
<text x="16" y="${height - 10}" font-size="12" fill="${colours.quiet}">make bench, 2 cores, PostgreSQL and Node.js on one machine</text>
</svg>`);
