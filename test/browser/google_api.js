// What the popup uses of https://apis.google.com/js/api.js, which cannot be loaded where
// there is no Internet: messages between a page and a frame in it.  Both load this, as
// both would load Google's.

(() => {
  const CROSS_ORIGIN_IFRAMES_FILTER = {};

  // The other end of a connection: what we handle for it, and what it has to answer.
  function connect(other) {
    const handlers = { ping: () => 'pong' };
    const waiting = new Map();

    function ask(name, data) {
      return new Promise((resolve) => {
        waiting.set(waiting.size, resolve);
        other().postMessage({ ask: name, number: waiting.size - 1, data }, '*');
      });
    }

    addEventListener('message', ({ source, data }) => {
      if (source !== other()) {
        return;
      }
      if (data.ask in handlers) {
        source.postMessage({ number: data.number, answer: handlers[data.ask](data.data) }, '*');
      } else if (data.ask === undefined) {
        waiting.get(data.number)?.([data.answer]);
      }
    });
    return {
      restyle: async () => {},
      ping: (done) => ask('ping').then(done),
      register: (name, handler) => { handlers[name] = handler; },
      // The SDK's function for "webStorageSupport" throws at its end, whatever the answer is.
      send: (name, data, done) => ask(name, data).then(done).catch(() => {}),
    };
  }

  function open({ url, where }, opened) {
    const frame = document.createElement('iframe');
    const loaded = new Promise((resolve) => { frame.onload = resolve; });
    const connection = connect(() => frame.contentWindow);

    frame.src = url;
    where.append(frame);
    return loaded.then(() => opened(connection)).then(() => connection);
  }

  window.gapi = {
    load: (name, { callback }) => callback(),
    iframes: {
      CROSS_ORIGIN_IFRAMES_FILTER,
      Iframe: class {},
      getContext: () => ({ open, getParentIframe: () => connect(() => parent) }),
    },
  };
  const { searchParams } = new URL(document.currentScript.src);
  window[searchParams.get('onload')]();
})();
