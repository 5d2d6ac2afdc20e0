/*
 * text.h
 *		Forms of text that do not depend on the server's state: base64url,
 *		JSON, times, addresses, encodings, the prefixes of API keys, and the
 *		characters allowed in names and ids.
 */
#ifndef OA_TEXT_H
#define OA_TEXT_H

#include "overten_auth.h"
#include "datatype/timestamp.h"

/* base64url.c: the text of a token */
#define OA_TOKEN_MAX			(16 * 1024) /* real ones have 1 to 2 kB */
#define OA_TOKEN_SEGMENTS		3
#define OA_BASE64URL_DECODED(n) ((n) / 4 * 3 + 2)
#define OA_BASE64URL_ENCODED(n) (((n) + 2) / 3 * 4)

typedef struct OaTokenSegment
{
	const char *start;
	int			length;
} OaTokenSegment;

extern bool oa_split_token(const char *token, int length,
						   OaTokenSegment *segments);
extern int	oa_base64url_decode(const char *encoded, int length,
								unsigned char *bytes);
extern int	oa_base64url_encode(const unsigned char *bytes, int length,
								char *encoded);

/*
 * strict_json.c: JSON that can be read in only one way.  The limits leave room
 * for everything that Firebase can put into a token; its custom claims have at
 * most 1000 bytes.
 */
#define OA_JSON_DEPTH_MAX		512
#define OA_JSON_MEMBERS_MAX		256
#define OA_JSON_NODES(length)	((length) / 2 + 2)

typedef enum OaJsonType
{
	OA_JSON_OBJECT, OA_JSON_ARRAY, OA_JSON_STRING, OA_JSON_NUMBER,
	OA_JSON_TRUE, OA_JSON_FALSE, OA_JSON_NULL
} OaJsonType;

typedef struct OaJsonNode
{
	int			start;			/* offset; of a string, of its first byte */
	int			length;			/* in bytes; of a string, without quotes */
	int			next;			/* index of the node after this and its
								 * contents */
	uint32		hash;			/* of a member's name */
	uint8		type;			/* an OaJsonType */
	bool		escaped;		/* a string with escape sequences */
	uint16		count;			/* of an object, its members */
} OaJsonNode;

extern const char *oa_json_parse_value(const char *json, int length,
									   OaJsonNode *nodes, int capacity);
extern const char *oa_json_parse(const char *json, int length,
								 OaJsonNode *nodes, int capacity);
extern const OaJsonNode *oa_json_member(const char *json,
										const OaJsonNode *nodes,
										const OaJsonNode *object,
										const char *name);
extern double oa_json_number(const char *json, const OaJsonNode *node);

/* json_string.c: JSON strings */
extern int	oa_json_plain_length(const char *bytes, int length, bool ascii);
extern int	oa_utf8_length(const unsigned char *at, const unsigned char *end);
extern const char *oa_json_skip_string(const unsigned char **at,
									   const unsigned char *end,
									   bool *escaped);
extern bool oa_json_equals(const char *json, const OaJsonNode *node,
						   const char *expected);
extern bool oa_json_same(const char *json, const OaJsonNode *a,
						 const OaJsonNode *b);
extern uint32 oa_json_hash(const char *json, const OaJsonNode *node);
extern int	oa_json_unescape(const char *json, const OaJsonNode *node,
							 char *out);

/* encoding.c: between the server's encoding and UTF-8, without raising */
extern char *oa_server_to_utf8(const char *bytes, int length,
							   int *utf8_length);
extern bool oa_utf8_to_server(const char **bytes, int *length);
extern text *oa_utf8_to_text(const char *utf8, int length);
extern text *oa_utf8_to_id(const char *utf8);
extern text *oa_json_to_text(const char *json, const OaJsonNode *node);

/* rfc3339.c: times */
extern bool oa_parse_time(const char *time_text, TimestampTz *time);

/* text_rules.c: the characters allowed in names and user ids */
typedef enum OaTextRule
{
	OA_TEXT_GOOD,
	OA_TEXT_LENGTH,
	OA_TEXT_CONTROL_CHARACTER,
	OA_TEXT_BIDIRECTIONAL,
	OA_TEXT_NONCHARACTER,
	OA_TEXT_INVISIBLE,
	OA_TEXT_ENDS,
	OA_TEXT_ENCODING
} OaTextRule;

extern OaTextRule oa_check_name_characters(const char *utf8, int length);
extern OaTextRule oa_check_uid_characters(const char *utf8, int length);

/* The address that a request comes from. */
typedef struct OaClientAddr
{
	uint8		family;			/* 4, 6, or 0 if unknown */
	uint8		bytes[16];		/* an IPv4 address has 4; the rest is 0 */
} OaClientAddr;

/* client_addr_text.c: parsing such addresses */
extern void oa_set_ipv4(OaClientAddr *addr, const void *bytes);
extern void oa_set_ipv6(OaClientAddr *addr, const void *bytes);
extern bool oa_find_from_right(const char *list, int n, const char **start,
							   int *length);
extern void oa_parse_client_addr(const char *value, int length,
								 OaClientAddr *addr);

/* key_prefixes.c: the prefixes of API keys */
#define OA_KEY_PREFIX_MIN	2	/* bytes, the last one is "_" */
#define OA_KEY_PREFIX_MAX	16
#define OA_KEY_PREFIXES_MAX	16	/* in a list */
#define OA_SECRET_TAIL_LEN	28	/* of a secret, after its prefix */

typedef enum OaEnvironment
{
	OA_LIVE, OA_TEST
} OaEnvironment;

typedef struct OaKeyPrefix
{
	char		bytes[OA_KEY_PREFIX_MAX];
	int			length;
	OaEnvironment environment;	/* of the keys that begin with it */
} OaKeyPrefix;

/* Those that are accepted; the first one of an environment is for new keys. */
typedef struct OaKeyPrefixes
{
	int			count;
	OaKeyPrefix prefixes[OA_KEY_PREFIXES_MAX];
} OaKeyPrefixes;

extern const char *oa_parse_key_prefixes(const char *list,
										 OaKeyPrefixes *prefixes);
extern const OaKeyPrefix *oa_minting_prefix(const OaKeyPrefixes *prefixes,
											OaEnvironment environment);
extern const OaKeyPrefix *oa_find_key_prefix(const OaKeyPrefixes *prefixes,
											 const char *bytes, int length,
											 int tail);
extern bool oa_looks_like_secret(const char *bytes, int length);

/* slots.c: which slots a server has */
#define OA_SLOTS			1024

typedef struct OaSlots
{
	int			count;
	uint8		bits[OA_SLOTS / 8];
} OaSlots;

extern const char *oa_parse_slots(const char *list, OaSlots *slots);
extern bool oa_has_slot(const OaSlots *slots, int slot);

/* networks.c: sets of addresses with the same first bits */
#define OA_NETWORK_TEXT_MAX	49	/* bytes, with the number of bits */

typedef struct OaNetwork
{
	uint8		family;			/* 4 or 6 */
	uint8		bits;			/* the rest of the bytes is 0 */
	uint8		bytes[16];
} OaNetwork;

extern bool oa_set_network(OaNetwork *network, int family, int bits,
						   const void *bytes);
extern bool oa_parse_network(const char *value, int length,
							 OaNetwork *network);
extern bool oa_network_contains(const OaNetwork *network,
								const OaClientAddr *addr);

#endif							/* OA_TEXT_H */
