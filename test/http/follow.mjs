// follow.mjs FILE: print what is in a file and what is added to it, until SIGINT
// or SIGTERM, which end this with success even where a shell would ignore them.

import fs from 'node:fs';

const file = fs.openSync(process.argv[2], 'r');
const buffer = Buffer.alloc(65536);

process.on('SIGINT', () => process.exit(0));
process.on('SIGTERM', () => process.exit(0));
setInterval(() => {
  let length;

  while ((length = fs.readSync(file, buffer)) > 0) {
    process.stdout.write(buffer.subarray(0, length));
  }
}, 200);
