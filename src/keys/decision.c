/*
 * decision.c
 *		Decides whether a key is admitted.
 *
 * There is one decision for all callers: the functions that verify, the HTTP
 * API, and the identity for row level security.  Its steps, in this order:
 *
 *	row -> revoked -> prefix -> environment -> expired -> disabled -> address -> scope
 *
 * Whether the request may go on also depends on limits (admission.c).
 *
 * What is found wrong first is the outcome.  That a key is unknown, revoked, or
 * of a suspended org is the same outcome, and says nothing.  Whoever asks about
 * another outcome has shown the secret, so the outcome tells them only about
 * their own key.
 *
 * Nothing is consumed or recorded by a decision.  The caller records the use of
 * a key when nothing else refuses the request, or else the refusal.
 */
#include "postgres.h"

#include "access/htup_details.h"

#include "keys/decision.h"
#include "usage/usage.h"

/* Can the caller be told whose key this is? */
static bool
is_for_caller(const OaQuestion *question, const OaRestrictions *restrictions)
{
	return question->knows_restrictions || restrictions == NULL ||
		!(restrictions->has_scopes || restrictions->has_addresses);
}

/* Is the prefix of a key in overten_auth.key_prefixes? */
static bool
has_accepted_prefix(HeapTupleHeader row)
{
	text	   *prefix = oa_verified_column(row, OA_VERIFIED_KEY_PREFIX);
	OaEnvironment environment;

	return oa_is_prefix_shaped(VARDATA_ANY(prefix), VARSIZE_ANY_EXHDR(prefix),
							   &environment);
}

/*
 * Decide about the key with a digest.  The caller has made sure of
 * oa_may_verify().
 */
void
oa_decide(const OaQuestion *question, OaDecision *decision)
{
	OaKeyFound	found;
	const OaRestrictions *restrictions;

	memset(&decision->cached, 0, sizeof(decision->cached));
	oa_find_key(question->digest, question->with_limits, &found,
				&decision->cached);
	restrictions = decision->cached.restrictions;
	decision->row = found.row;
	decision->was_cached = found.was_cached;
	decision->revoked_key_id = found.revoked_key_id;
	decision->restrictions = restrictions;
	if (found.row == NULL ||
		!(question->saw_secret || has_accepted_prefix(found.row)))
		decision->outcome = OA_KEY_INVALID;
	else
		decision->outcome = oa_check_restrictions(restrictions,
												  question->address,
												  question->scopes);
	if (decision->outcome == OA_ADMITTED &&
		!is_for_caller(question, restrictions))
		decision->outcome = OA_KEY_INVALID;
}

/* Record that a key was refused, but not by a limit. */
void
oa_record_refusal(const OaQuestion *question, const OaDecision *decision)
{
	text	   *key_id = decision->row == NULL ? decision->revoked_key_id :
	oa_verified_column(decision->row, OA_VERIFIED_KEY_ID);

	oa_count_event(decision->was_cached ? OA_REFUSED_UNREAD : OA_REFUSED);
	if (key_id != NULL)
		oa_use_recorder()->refused(key_id, question->client,
								   OA_COUNTED_REFUSED);
}

/* Record that a limit refused a request with a key that is good. */
void
oa_record_limited(const OaQuestion *question, const OaDecision *decision)
{
	oa_count_event(OA_LIMITED);
	oa_use_recorder()->refused(oa_verified_column(decision->row,
												  OA_VERIFIED_KEY_ID),
							   question->client, OA_COUNTED_LIMITED);
}

/* Record the use of a key that was admitted. */
void
oa_record_use(const OaQuestion *question, OaDecision *decision)
{
	oa_count_event(decision->was_cached ? OA_CACHE_HIT : OA_ACCEPTED);
	oa_use_recorder()->accepted(oa_verified_column(decision->row,
												   OA_VERIFIED_KEY_ID),
								question->client,
								&decision->cached.recorded_at);
	oa_key_cache_record(&decision->cached);
}
