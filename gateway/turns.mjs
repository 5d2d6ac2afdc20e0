// The turns of requests that have an Idempotency-Key.
//
// If a client repeats a request, the key that the request before has created is
// replaced.  So what the client sent last has to be handled last, although the client
// no longer waits for the requests before it.  Here, requests with the same credential
// and Idempotency-Key are handled one after the other.  A request whose client has
// gone when its turn comes is not handled.

const latest = new Map();

async function takeTurn(before, request, handle) {
  await before?.catch(() => {});
  if (before !== undefined && request.socket.destroyed) {
    throw new Error('the client went away');
  }
  return handle();
}

// Call "handle" in the request's turn.  Returns what it returns.
export async function inTurn(request, headers, handle) {
  const name = headers['idempotency-key'];

  if (name === undefined) {
    return handle();
  }
  const key = `${headers.authorization}\n${name}`;
  const turn = takeTurn(latest.get(key), request, handle);

  latest.set(key, turn);
  try {
    return await turn;
  } finally {
    if (latest.get(key) === turn) {
      latest.delete(key);
    }
  }
}
