// To be loaded into a program by NODE_OPTIONS=--require: a mistake that happens when
// SIGUSR2 comes, with a secret in its message.

process.on('SIGUSR2', () => {
  setImmediate(() => {
    throw new RangeError('sk_live_0000000000000000000000K3vO8');
  });
});
