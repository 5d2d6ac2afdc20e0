/*
 * key_document.c
 *		Feeds libFuzzer's input to the reader of key documents.
 *
 * Besides what the sanitizers find, leaks too: a key that is accepted can be
 * parsed again from what would be stored, and is one that may be used.
 */
#include "postgres.h"

#include <openssl/evp.h>
#include <openssl/x509.h>

#include "signing_keys/fetch.h"

int			LLVMFuzzerTestOneInput(const uint8 *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8 *data, size_t size)
{
	static OaSigningKeyDocument document;
	char	   *text;
	OaJsonNode *nodes;

	if (size > OA_SIGNING_KEY_DOCUMENT_MAX)
		return 0;
	text = malloc(size + 1);
	nodes = malloc(OA_JSON_NODES(size) * sizeof(OaJsonNode));
	memcpy(text, data, size);
	text[size] = '\0';

	if (oa_parse_signing_keys(text, size, nodes, INT64CONST(1800000000), 0,
							  &document) == NULL)
	{
		if (document.count < 1 || document.count > OA_SIGNING_KEYS_MAX)
			abort();
		for (int i = 0; i < document.count; i++)
		{
			const OaPublishedKey *key = &document.keys[i];
			const unsigned char *der = key->public_key;
			EVP_PKEY   *parsed = d2i_PUBKEY(NULL, &der,
											key->public_key_length);

			if (parsed == NULL || oa_check_signing_key(parsed) != OA_NO_FLAW ||
				key->kid_length < 1 || key->kid_length > OA_KID_MAX)
				abort();
			EVP_PKEY_free(parsed);
		}
	}
	oa_free_signing_keys(&document);
	free(nodes);
	free(text);
	return 0;
}
