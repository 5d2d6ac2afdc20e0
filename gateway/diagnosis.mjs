// Explains to the operator what is wrong between the gateway and its database, and
// what to do about it.
//
// We repeat the server's own words if they are about the connection or about the
// role's privileges, because no client of the API has any influence on them.

import pg from 'pg';

// As node-postgres reads them from the environment.
const { user, database } = new pg.Client();

// What to do, by SQLSTATE.
const PASSWORD = `Set PGPASSWORD to the password of the role ${user}, or PGPASSFILE to a file ` +
  'that has it';
const CREATE = 'Create the extension there: CREATE EXTENSION overten_auth CASCADE';
const ROLES = 'Run gateway/roles.sql there';
const REMEDIES = {
  28000: `The role ${user} has to exist and to have LOGIN, which gateway/roles.sql sees to, and ` +
    'pg_hba.conf has to let it in.  For peer or ident authentication the operating system\'s ' +
    'user has to have the same name, or pg_ident.conf to map it; for any other set PGHOST to ' +
    'an address and PGPASSWORD',
  '28P01': PASSWORD,
  '3D000': 'Set PGDATABASE to the database that has the extension',
  '3F000': CREATE,
  42501: ROLES,
  42883: CREATE,
};

// What to do if we could not connect, by the code of the error.
const NO_ANSWER = {
  EACCES: 'The operating system\'s user may not use that socket',
};
const UNREACHABLE = 'Is the server running, and are PGHOST and PGPORT right?';

function sentences(...texts) {
  return texts.map((text) => text.replace(/[.?]?$/, (end) => end || '.')).join('  ');
}

// Explains what is wrong with a server, by functions that return undefined if nothing is.
export function openDiagnosis(server) {
  const where = `the database ${database} at ${server.name}`;
  let advised = false;

  // Explain what an error says about the database.  Not if the error is about
  // something else, or about a request.
  function explain(error) {
    if (error instanceof pg.DatabaseError) {
      const said = `${where} cannot be used: ${error.message} (${error.code})`;

      if (error.code in REMEDIES) {
        return sentences(said, REMEDIES[error.code]);
      }
      return /^(53|57P)/.test(error.code) ? sentences(said) : undefined;
    }
    if (/^SASL: /.test(error.message)) {
      return sentences(`${where} asks for a password`, PASSWORD);
    }
    if (/^(connect|getaddrinfo)/.test(error.syscall) || error instanceof AggregateError) {
      return sentences(`${where} cannot be reached: ${error.code}`, NO_ANSWER[error.code] ?? UNREACHABLE);
    }
    if (/timeout (exceeded|expired)|connection timeout/.test(error.message)) {
      return sentences(`there was no connection to ${where} in CONNECT_TIMEOUT_MS`,
        'Either it does not answer, or POOL_SIZE is too small');
    }
    return undefined;
  }

  // Explain what is wrong with the extension in the database, or with the role's
  // privileges.
  function explainFound([found]) {
    if (found === undefined) {
      return sentences(`${where} has no extension overten_auth`, CREATE);
    }
    if (found.function === null) {
      return sentences(`${where} has no overten_handle_request that takes what is to be asked`,
        'Update the extension there: ALTER EXTENSION overten_auth UPDATE');
    }
    if (!found.usage) {
      return sentences(`the role ${user} may not look into the schema of the extension`,
        `GRANT USAGE ON SCHEMA ${pg.escapeIdentifier(found.schema)} TO ${pg.escapeIdentifier(user)}`);
    }
    if (!found.execute) {
      return sentences(`the role ${user} may not execute overten_handle_request`, ROLES);
    }
    return undefined;
  }

  // Explain, once, what people cannot do with a database that is otherwise in order.
  function adviseOnFound([{ project }]) {
    if (advised || project !== '') {
      return undefined;
    }
    advised = true;
    return sentences(`people cannot sign in, but programs can use their keys: in ${where} ` +
      'overten_auth.firebase_project_id is not set', 'If you use Firebase, run ALTER DATABASE ' +
      `${pg.escapeIdentifier(database)} SET overten_auth.firebase_project_id = 'your-project', and ` +
      'restart the gateway');
  }

  return { explain, explainFound, adviseOnFound };
}
