/*
 * jwt_library.c
 *		Opens libjwt, which decodes tokens, and isolates it from the server.
 *
 * We must not link libjwt.  It calls json_object() of libjansson, but the
 * server exports a SQL function with the same name, and the server's symbols
 * come first.  So the first token would crash the backend, and with it the
 * server.  Instead we open libjwt when we first need it, with RTLD_DEEPBIND,
 * so that it and its dependencies find each other's symbols before the
 * server's.  That works only if libjansson is loaded this way.  If somebody
 * else has loaded a copy, its symbols are already bound, and we refuse to open
 * libjwt.
 *
 * We never give a key to libjwt, because libjwt would let the token choose how
 * the token is checked; token_rules.c and key_ring.c decide that.
 */
#include "postgres.h"

#include <dlfcn.h>
#include <jwt.h>

#include "tokens/token.h"

/* The sonames of libjwt 1.10 (Debian 12) and of 1.17 (later releases). */
static const char *const library_names[] = {"libjwt.so.0", "libjwt.so.2"};

/* The library that must not be loaded before libjwt loads it. */
#define JANSSON "libjansson.so.4"

static struct
{
	int			(*decode) (jwt_t **jwt, const char *token,
						   const unsigned char *key, int key_length);
	void		(*free) (jwt_t *jwt);
	const char *(*get_header) (jwt_t *jwt, const char *name);
	const char *(*get_grant) (jwt_t *jwt, const char *name);
}			library;

static bool library_is_open = false;

/* Has somebody else loaded libjansson? */
static bool
jansson_is_loaded(void)
{
	void	   *handle = dlopen(JANSSON, RTLD_LAZY | RTLD_NOLOAD);

	if (handle == NULL)
		return false;
	dlclose(handle);
	return true;
}

/* Look up a function of libjwt.  Raises 55000 if libjwt does not have it. */
static void *
find_function(void *handle, const char *name)
{
	void	   *function = dlsym(handle, name);

	if (function == NULL)
	{
		dlclose(handle);
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("libjwt has no function \"%s\"", name),
				 errhint("Install libjwt 1.10 to 1.17, on Debian the package libjwt0 or libjwt2.")));
	}
	return function;
}

/*
 * Open libjwt unless it is open.  Raises 58P01 if it is not installed, and
 * 55000 if we cannot use it in this process.
 */
void
oa_jwt_library_open(void)
{
	void	   *handle = NULL;

	if (library_is_open)
		return;

	if (jansson_is_loaded())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("libjansson was loaded before libjwt"),
				 errdetail("Another module of this session has bound it to the server's function json_object, which would crash libjwt."),
				 errhint("Verify tokens in sessions that do not load that module.")));

	for (int i = 0; i < lengthof(library_names) && handle == NULL; i++)
		handle = dlopen(library_names[i],
						RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
	if (handle == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FILE),
				 errmsg("could not load libjwt: %s", dlerror()),
				 errhint("Install it, on Debian the package libjwt0 or libjwt2.")));

	library.decode = find_function(handle, "jwt_decode");
	library.free = find_function(handle, "jwt_free");
	library.get_header = find_function(handle, "jwt_get_header");
	library.get_grant = find_function(handle, "jwt_get_grant");
	library_is_open = true;
}

/*
 * Decode a token, without checking its signature.  Returns NULL if libjwt
 * cannot decode it.  The result is malloc'ed, so the caller must not raise
 * before oa_jwt_free().  base64url.c must have accepted the token, and
 * strict_json.c its JSON.
 */
OaJwt	   *
oa_jwt_decode(const char *token)
{
	jwt_t	   *jwt = NULL;

	if (library.decode(&jwt, token, NULL, 0) != 0)
		return NULL;
	return jwt;
}

void
oa_jwt_free(OaJwt *jwt)
{
	library.free(jwt);
}

/* Return a string of the header, or NULL.  It is freed with "jwt". */
const char *
oa_jwt_header(OaJwt *jwt, const char *name)
{
	return library.get_header(jwt, name);
}

/* Return a string claim, or NULL.  It is freed with "jwt". */
const char *
oa_jwt_claim(OaJwt *jwt, const char *name)
{
	return library.get_grant(jwt, name);
}
