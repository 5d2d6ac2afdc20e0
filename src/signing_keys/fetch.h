/*
 * fetch.h
 *		Parsing the documents in which signing keys are published, and
 *		fetching them, for the files of this directory.
 */
#ifndef OA_FETCH_H
#define OA_FETCH_H

#include "signing_keys/signing_keys.h"
#include "text/text.h"

/* key_document.c: the documents in which signing keys are published */
#define OA_SIGNING_KEY_DOCUMENT_MAX		(256 * 1024)
#define OA_SIGNING_KEYS_MAX		64
#define OA_KID_MAX				256 /* bytes */

struct bignum_st;
struct evp_pkey_st;

/* Why we skip a key of a document. */
typedef enum OaSigningKeyFlaw
{
	OA_NO_FLAW,
	OA_FLAW_TYPE, OA_FLAW_USE, OA_FLAW_ALG, OA_FLAW_ID, OA_FLAW_MALFORMED,
	OA_FLAW_WEAK, OA_FLAW_UNSOUND, OA_FLAW_EARLY, OA_FLAW_EXPIRED,
	OA_FLAW_DUPLICATE,
	OA_SIGNING_KEY_FLAWS
} OaSigningKeyFlaw;

typedef struct OaPublishedKey
{
	char		kid[OA_KID_MAX];	/* UTF-8, without a NUL */
	int			kid_length;
	unsigned char *public_key;	/* SubjectPublicKeyInfo in DER, malloc'ed */
	int			public_key_length;
	bool		expires;
	bool		duplicate;		/* does a later key have the same id? */
	int64		expires_at;		/* seconds since 1970 */
} OaPublishedKey;

typedef struct OaSigningKeyDocument
{
	int			count;
	OaPublishedKey keys[OA_SIGNING_KEYS_MAX];
	int			skipped[OA_SIGNING_KEY_FLAWS];	/* number of keys, by reason */
} OaSigningKeyDocument;

#define OA_SKIPPED_MAX			120 /* bytes of a description that we keep */

extern const char *oa_parse_signing_keys(const char *json, int length,
										 OaJsonNode *nodes, int64 now,
										 int64 skew, OaSigningKeyDocument *document);
extern void oa_free_signing_keys(OaSigningKeyDocument *document);

/* key_flaws.c: which keys can check signatures */
#define OA_RSA_BITS_MAX			16384	/* OpenSSL's own limit */

extern OaSigningKeyFlaw oa_check_rsa_numbers(const struct bignum_st *modulus,
											 const struct bignum_st *exponent);
extern OaSigningKeyFlaw oa_check_signing_key(struct evp_pkey_st *key);
extern int	oa_describe_skipped(const OaSigningKeyDocument *document,
								char *description, int size);

/* fetch_answer.c: the HTTP answer in which such a document comes */
#define OA_ANSWER_HEADER_MAX	(16 * 1024)
#define OA_MAX_AGE_LEAST		300 /* seconds */
#define OA_MAX_AGE_MOST			(24 * 3600)

typedef struct OaFetchAnswer
{
	int			status;			/* HTTP status */
	int			body;			/* offset of the body */
	int			max_age;		/* seconds that it is good for, clamped */
} OaFetchAnswer;

extern const char *oa_read_fetch_answer(const char *bytes, int length,
										OaFetchAnswer *answer);

/* fetch_schedule.c: when to fetch signing keys */
extern TimestampTz oa_next_fetch_at(TimestampTz now, int max_age,
									int failures, uint32 random);
extern bool oa_fetch_is_due(TimestampTz now, TimestampTz fetched_at,
							TimestampTz next_fetch_at);

/* fetch_command.c: running the command that fetches signing keys */
#define OA_COMMAND_SAID_MAX		200

typedef struct OaCommandRun
{
	char	   *printed;		/* buffer for its stdout */
	int			capacity;		/* bytes, more than it may print */
	int			length;
	char		said[OA_COMMAND_SAID_MAX + 1];	/* the beginning of its stderr */
	int			status;			/* as waitpid() gives it */
} OaCommandRun;

extern const char *oa_run_command(const char *command, OaCommandRun *run);

/* fetch.c: the result of a fetch */
typedef struct OaFetch
{
	char	   *document;		/* palloc'd and usable, or NULL: unchanged */
	int			length;
	int			max_age;		/* seconds, as in OaFetchAnswer */
	char		outcome[OA_OUTCOME_MAX];	/* a sentence, without any
											 * contents */
	char		said[OA_COMMAND_SAID_MAX + 1];	/* as in OaCommandRun */
} OaFetch;

extern bool oa_fetch_signing_keys(const char *command, OaFetch *fetch);

#endif							/* OA_FETCH_H */
