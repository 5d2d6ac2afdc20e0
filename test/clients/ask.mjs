// ask.mjs FILE
//     Ask the module FILE of docs/clients.md what each line of the input says:
//     "verify SECRET", "mint ORG NAME", or "uid TOKEN", each argument
//     percent-encoded.  Print a line for each: "row" and what is in it, "none",
//     "invalid" and the message, or "error" and the SQLSTATE.  Errors are printed
//     on standard error, as a program would log them.

import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';

const client = await import(pathToFileURL(process.argv[2]));

async function answerTo([what, ...values]) {
  try {
    const row = await client[what](...values);
    return row === undefined ? 'none' : `row ${typeof row === 'string' ? row : Object.values(row).join(' ')}`;
  } catch (error) {
    if (error instanceof RangeError) {
      return `invalid ${error.message}`;
    }
    console.error(error);
    return `error ${error.code}`;
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  console.log(await answerTo(line.split(' ').map(decodeURIComponent)));
}
process.exit();
