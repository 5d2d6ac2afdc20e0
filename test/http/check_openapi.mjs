// check_openapi.mjs EXCHANGES: are these exchanges what gateway/openapi.json says?
//
// EXCHANGES is a file of JSON lines: method, path, status, headers (a list of
// values for each name), sent and body, the last two in base64.  Prints a line
// for each answer that the document does not describe, and for each status of an
// operation that no exchange has shown, unless it is one of those given by node's
// parser before the request is known.
//
// Bodies are checked by ajv, the usual validator for the JSON Schema (2020-12) that
// OpenAPI 3.1 builds upon: one written here would only prove that two pieces of our
// own agree.

import fs from 'node:fs';
import { createRequire } from 'node:module';

const here = new URL('../../gateway/', import.meta.url);
const require = createRequire(new URL('package.json', here));
const Ajv = require('ajv/dist/2020.js').default;

const document = JSON.parse(fs.readFileSync(new URL('openapi.json', here), 'utf8'));
const ajv = new Ajv({ strict: false, validateFormats: false, allErrors: true });
ajv.addSchema({ $id: 'openapi', ...document });

const BEFORE_THE_REQUEST_IS_KNOWN = ['408', '431'];
const LONGEST_PATH = 8192;
const problems = new Set();
const unseen = new Set();

// Follow a reference within the document; to "pointer", for the validator.
function resolve(part, pointer) {
  if (part.$ref === undefined) {
    return [part, pointer];
  }
  const target = part.$ref.slice(1);
  const found = target.split('/').slice(1).reduce((at, name) => at?.[name], document);
  if (found === undefined) {
    throw new Error(`${part.$ref} is not there`);
  }
  return resolve(found, target);
}

function escape(name) {
  return name.replaceAll('~', '~0').replaceAll('/', '~1');
}

function complaints(pointer, value) {
  const validate = ajv.getSchema(`openapi#${pointer}`);

  return validate(value) ? [] : validate.errors.map((error) => `${error.instancePath} ${error.message}`);
}

const operations = Object.entries(document.paths).flatMap(([path, item]) =>
  ['get', 'post', 'patch', 'delete'].filter((method) => item[method]).map((method) => ({
    method: method.toUpperCase(),
    pattern: new RegExp(`^${document.servers[0].url}${path.replace(/\{\w+\}/g, '[^/]+')}$`),
    pointer: `/paths/${escape(path)}/${method}`,
    operation: item[method],
    name: `${method.toUpperCase()} ${path}`,
  })));

for (const { name, operation } of operations) {
  for (const status of Object.keys(operation.responses)) {
    if (!BEFORE_THE_REQUEST_IS_KNOWN.includes(status)) {
      unseen.add(`${name}: ${status}`);
    }
  }
}

function check({ method, path, status, headers, sent, body }) {
  const asked = method === 'HEAD' ? 'GET' : method;
  const found = operations.find((operation) =>
    operation.method === asked && operation.pattern.test(path.split('?')[0]));

  if (found === undefined) {
    return status === 404 || status === 405 || status === 400 && path.length > LONGEST_PATH
      ? complaints('/components/schemas/Error', body === '' ? { error: { code: '', message: '' } } : JSON.parse(body))
      : [`status ${status} of what is not described`];
  }
  if (found.operation.responses[status] === undefined) {
    return [`status ${status} is not described`];
  }
  unseen.delete(`${found.name}: ${status}`);

  const [response, pointer] = resolve(found.operation.responses[status],
    `${found.pointer}/responses/${status}`);
  const wrong = [];
  for (const [name, part] of Object.entries(response.headers)) {
    const [header, headerPointer] = resolve(part, `${pointer}/headers/${escape(name)}`);
    const values = headers[name.toLowerCase()] ?? [];
    if (values.length !== 1) {
      wrong.push(`${values.length} headers ${name}`);
    } else {
      wrong.push(...complaints(`${headerPointer}/schema`, values[0]));
    }
    if (header.required !== true) {
      wrong.push(`${name} is not described as required`);
    }
  }
  const type = headers['content-type']?.[0];
  if (type !== (response.content && 'application/json')) {
    wrong.push(`content type ${type}`);
  }
  if (response.content && method !== 'HEAD') {
    wrong.push(...complaints(`${pointer}/content/application~1json/schema`, JSON.parse(body)));
  }
  if (status === 201) {
    const schema = `${found.pointer}/requestBody/content/application~1json/schema`;
    wrong.push(...complaints(schema, JSON.parse(sent)).map((complaint) => `request: ${complaint}`));
  }
  return wrong;
}

for (const line of fs.readFileSync(process.argv[2], 'utf8').trim().split('\n')) {
  const exchange = JSON.parse(line);

  exchange.sent = Buffer.from(exchange.sent, 'base64').toString();
  exchange.body = Buffer.from(exchange.body, 'base64').toString();
  for (const complaint of check(exchange)) {
    problems.add(`${exchange.method} ${exchange.path.slice(0, 80)}: ${complaint}`);
  }
}
for (const problem of problems) {
  console.log(problem);
}
for (const missing of unseen) {
  console.log(`never seen: ${missing}`);
}
