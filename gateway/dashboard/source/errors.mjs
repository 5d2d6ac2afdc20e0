// What we tell a person about an error, by its code: what is wrong, and what to do.

const TEXTS = {
  // The API's
  unreachable: 'The service cannot be reached. Check your connection and try again.',
  service_unavailable: 'The service is not available at the moment. Try again in a minute.',
  limits_not_counted: 'Limits cannot be counted on this server at the moment. Try again in a minute; if it stays so, contact support.',
  auth_unavailable: 'Sign-ins cannot be checked at the moment. Try again in a minute.',
  internal_error: 'Something is wrong with the service. Try again; if it stays so, contact support.',
  missing_credentials: 'You are no longer signed in. Sign out, and sign in again.',
  invalid_token: 'Your sign-in is not accepted. Sign out, and sign in again.',
  expired_token: 'Your sign-in has expired. Sign out, and sign in again.',
  anonymous_not_allowed: 'Guests cannot sign up. Sign in with an email address.',
  email_not_verified: 'Verify your email address first: open the link that was sent to you, then sign in again.',
  organization_not_found: 'This organization does not exist, or you are not a member of it.',
  organization_closed: 'This organization is closed.',
  key_not_found: 'This key does not exist.',
  key_revoked: 'This key is revoked, and does not change any more.',
  disabled_by_operator: 'The operator of the service has disabled this key. Contact support.',
  already_signed_up: 'This organization has API access already. Reload the page to see its keys.',
  org_limit_reached: 'You have created as many organizations as you can have.',
  api_access_disabled: 'API access of this organization is switched off. Contact support.',
  key_limit_reached: 'This organization has as many keys as it can have. Revoke one that is not used.',
  invitation_not_found: 'This code is not good: it is mistyped, or the invitation has expired, was used or was withdrawn.',
  invitation_limit_reached: 'There are as many invitations as there can be. Withdraw one that is not needed.',
  already_member: 'You are a member already.',
  member_not_found: 'This person is not a member any more.',
  last_member: 'The last member cannot leave while there are active keys. Revoke them first.',
  key_not_active: 'This key is not active any more: it was revoked or disabled, or it has expired. Reload the page.',
  already_rotated: 'The last rotation of this key is not over. End the old key of that rotation first.',
  already_done: 'This key was created, but its secret was lost on the way. Revoke it, and create another one.',
  // Firebase's
  'auth/invalid-credential': 'The email address or the password is wrong.',
  'auth/invalid-email': 'This is not an email address.',
  'auth/missing-password': 'Enter a password.',
  'auth/weak-password': 'The password must have at least 6 characters.',
  'auth/email-already-in-use': 'There is an account with this email address. Sign in instead.',
  'auth/user-disabled': 'This account is disabled.',
  'auth/user-token-expired': 'Your sign-in has ended. Sign out, and sign in again.',
  'auth/invalid-refresh-token': 'Your sign-in has ended. Sign out, and sign in again.',
  'auth/too-many-requests': 'There were too many attempts. Try again later.',
  'auth/network-request-failed': 'The sign-in service cannot be reached. Check your connection and try again.',
  'auth/internal-error': 'The sign-in service cannot be reached. Check your connection and try again.',
  'auth/popup-blocked': 'The browser has blocked the window of the sign-in. Allow it, and try again.',
  'auth/popup-closed-by-user': 'The window of the sign-in was closed. Try again.',
  'auth/cancelled-popup-request': 'The window of the sign-in was closed. Try again.',
  'auth/operation-not-allowed': 'The sign-in service does not offer this.',
};

export function textOf(error) {
  return TEXTS[error.code] ?? (error.message || TEXTS.internal_error);
}
