// A network that is late: a relay to PostgreSQL that holds back what the server answers
// on one connection, and passes it on at once when the server has ended the connection.
//
// hold_back.mjs SOCKET NUMBER
//
// SIGUSR2 closes all connections.  Of the next one it passes on what comes before the
// message ReadyForQuery of this number, which is 1 when the server has let a client in.
// Prints "listening on PORT", and "closed" and "held" for each signal.

import net from 'node:net';

const READY_FOR_QUERY = 'Z'.charCodeAt(0);
const [path, number] = process.argv.slice(2);
const clients = new Set();
let holds = false;

function say(what) {
  process.stdout.write(`${what}\n`);
}

// The length of the messages at the beginning of some bytes that may be passed on, and
// how many of them were ReadyForQuery.
function passing(bytes, left) {
  let length = 0;
  let seen = 0;

  while (bytes.length - length >= 5) {
    const end = length + 1 + bytes.readUInt32BE(length + 1);
    const ready = bytes[length] === READY_FOR_QUERY;

    if (end > bytes.length || ready && seen + 1 === left) {
      break;
    }
    seen += ready ? 1 : 0;
    length = end;
  }
  return { length, seen };
}

function holdBack(server, client) {
  let left = Number(number);
  let kept = Buffer.alloc(0);

  server.on('data', (bytes) => {
    kept = Buffer.concat([kept, bytes]);
    if (left > 0) {
      const { length, seen } = passing(kept, left);

      left -= seen;
      client.write(kept.subarray(0, length));
      kept = kept.subarray(length);
      if (left === 1 && kept[0] === READY_FOR_QUERY) {
        left = 0;
        say('held');
      }
    }
  });
  server.on('end', () => client.end(kept));
}

const relay = net.createServer((client) => {
  const server = net.connect(path);

  clients.add(client);
  client.on('close', () => clients.delete(client));
  for (const [one, other] of [[client, server], [server, client]]) {
    one.on('error', () => other.destroy());
    one.on('close', () => other.end());
  }
  client.pipe(server);
  if (holds) {
    holds = false;
    holdBack(server, client);
  } else {
    server.pipe(client);
  }
});

process.on('SIGUSR2', async () => {
  await Promise.all(Array.from(clients, (client) => new Promise((resolve) => {
    client.on('close', resolve).end();
  })));
  holds = true;
  say('closed');
});
relay.listen(0, '127.0.0.1', () => say(`listening on ${relay.address().port}`));
