// What the Firebase web SDK asks of the auth emulator: one function for each request,
// which gets what was sent, and returns the answer or throws a Refusal.  The names are
// those of Firebase's REST API.

import { claimsOf } from './popup.mjs';
import { Refusal } from './refusal.mjs';
import { GOOGLE, PASSWORD } from './tokens.mjs';

export function openOperations(project, people, tokens, mail) {
  function personOf({ idToken }) {
    const claims = tokens.read(idToken);
    const person = claims && people.find(claims.sub);

    if (claims === undefined) {
      throw new Refusal('INVALID_ID_TOKEN');
    }
    if (person === undefined) {
      throw new Refusal('USER_NOT_FOUND');
    }
    return person;
  }

  // The answer after a person has signed in.
  function signedIn(person, provider = PASSWORD) {
    const { uid, email, name } = person;

    return { localId: uid, email, displayName: name, ...tokens.issue(tokens.begin(person, provider)) };
  }

  return {
    'accounts:signUp': (sent) => signedIn(people.add(sent)),

    'accounts:signInWithPassword': (sent) => ({ registered: true, ...signedIn(people.signIn(sent)) }),

    // After a popup.  Google has verified the address.
    'accounts:signInWithIdp': ({ requestUri, idToken }) => {
      const claims = claimsOf(requestUri);

      if (idToken !== undefined) {
        throw new Refusal('OPERATION_NOT_ALLOWED : Accounts cannot be linked');
      }
      if (claims === undefined) {
        throw new Refusal('INVALID_IDP_RESPONSE');
      }
      return { providerId: GOOGLE, emailVerified: true, ...signedIn(people.enter(claims), GOOGLE) };
    },

    'accounts:lookup': (sent) => {
      const person = personOf(sent);
      const { uid, email, name, createdAt } = person;
      const provider = { providerId: person.hash === undefined ? GOOGLE : PASSWORD, rawId: email, federatedId: email, email };

      return {
        users: [{
          localId: uid,
          email,
          displayName: name,
          emailVerified: person.isVerified,
          providerUserInfo: email === undefined ? [] : [provider],
          createdAt: String(createdAt),
          lastLoginAt: String(Date.now()),
        }],
      };
    },

    // A new password ends all sessions that were begun with the old one.
    'accounts:update': (sent) => {
      const person = personOf(sent);
      const { email, oobCode, deleteAttribute, deleteProvider } = sent;

      if ([email, oobCode, deleteAttribute, deleteProvider].some((member) => member !== undefined)) {
        throw new Refusal('OPERATION_NOT_ALLOWED : Only the name and the password can be changed');
      }
      people.change(person, sent);
      if (sent.password === undefined) {
        return { localId: person.uid, email: person.email, displayName: person.name };
      }
      tokens.end(person);
      return signedIn(person);
    },

    // Only the email that verifies an address.
    'accounts:sendOobCode': (sent) => {
      if (sent.requestType !== 'VERIFY_EMAIL') {
        throw new Refusal('OPERATION_NOT_ALLOWED : Only VERIFY_EMAIL can be sent', 501);
      }
      const person = personOf(sent);
      if (person.email === undefined) {
        throw new Refusal('MISSING_EMAIL');
      }
      mail.write(person, sent.requestType);
      return { email: person.email };
    },

    'accounts:delete': (sent) => {
      const person = personOf(sent);

      people.remove(person);
      tokens.end(person);
      return {};
    },

    token: ({ grant_type: type, refresh_token: refreshToken }) => {
      if (type !== 'refresh_token') {
        throw new Refusal('INVALID_GRANT_TYPE');
      }
      const session = tokens.find(refreshToken);
      if (session === undefined) {
        throw new Refusal(refreshToken ? 'INVALID_REFRESH_TOKEN' : 'MISSING_REFRESH_TOKEN');
      }
      if (session.ended) {
        throw new Refusal('TOKEN_EXPIRED');
      }
      const { idToken, expiresIn } = tokens.issue(session);
      return {
        id_token: idToken,
        access_token: idToken,
        expires_in: expiresIn,
        refresh_token: refreshToken,
        token_type: 'Bearer',
        user_id: session.person.uid,
        project_id: project,
      };
    },
  };
}
