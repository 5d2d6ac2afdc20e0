// Which servers there are, read from the environment as libpq reads it.
//
// node-postgres takes PGHOST for the name of one host, the first of several ports,
// and does not know the other two variables.  So we read them here, and give it one
// server at a time.

import pg from 'pg';

// What a server can be asked, by PGTARGETSESSIONATTRS.  A role has "standby", and
// "writes": whether a session can write.
const TARGETS = {
  any: () => true,
  'read-write': (role) => role.writes,
  'read-only': (role) => !role.writes,
  primary: (role) => !role.standby,
  standby: (role) => role.standby,
  'prefer-standby': () => true,
};

function portOf(text) {
  const port = Number(text || pg.defaults.port);

  if (!/^[0-9]*$/.test(text) || port < 1 || port > 65535) {
    throw new Error('PGPORT must be one port, or a list of ports, each between 1 and 65535');
  }
  return port;
}

function listOf(text) {
  return (text ?? '').split(',').map((item) => item.trim());
}

// The servers of PGHOST and PGPORT: as many ports as hosts, or one port for all.  What
// is empty is the default.
function readServers(environment) {
  const hosts = listOf(environment.PGHOST).map((host) => host || pg.defaults.host);
  const ports = listOf(environment.PGPORT).map(portOf);

  if (ports.length > 1 && ports.length !== hosts.length) {
    throw new Error(`PGPORT must have one port, or as many as PGHOST has hosts (${hosts.length})`);
  }
  return hosts.map((host, i) => {
    const port = ports[i] ?? ports[0];

    return { host, port, name: `${host}:${port}` };
  });
}

function choice(environment, name, values) {
  const value = environment[name] || values[0];

  if (!values.includes(value)) {
    throw new Error(`${name} must be one of: ${values.join(', ')}`);
  }
  return value;
}

// The servers, and how to choose among them.  A single server that can be anything
// needs no choice.
export function readTopology(environment) {
  const servers = readServers(environment);
  const target = choice(environment, 'PGTARGETSESSIONATTRS', Object.keys(TARGETS));

  return {
    servers,
    single: servers.length === 1 && (target === 'any' || target === 'prefer-standby'),
    accepts: TARGETS[target],
    prefersStandby: target === 'prefer-standby',
    inTurn: choice(environment, 'PGLOADBALANCEHOSTS', ['random', 'disable']) === 'random',
  };
}
