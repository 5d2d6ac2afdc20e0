/*
 * jwt_library.c
 *		Opens libjwt, which decodes tokens, and keeps it away from the server.
 *
 * libjwt must not be linked.  It calls json_object() of libjansson, the server
 * exports its SQL function under that name, and the server's symbols come
 * first: the first token would kill the backend, and with it the server.  So
 * it is opened when it is first needed, with RTLD_DEEPBIND, by which it and
 * what it depends on find each other's symbols before the server's.  That
 * holds only if libjansson comes into the process by this door: a copy that
 * somebody else has loaded is already bound, so then this file refuses.
 *
 * No key is ever given to libjwt.  It would let the token choose how it is to
 * be checked; that is token_rules.c's and key_ring.c's to decide.
 */
#include "postgres.h"

#include <dlfcn.h>
#include <jwt.h>

#include "tokens/token.h"

/* Debian 12's libjwt 1.10 and the 1.17 of later releases, by their sonames. */
static const char *const library_names[] = {"libjwt.so.0", "libjwt.so.2"};

/* The library that libjwt must bring along itself. */
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

/* A function of libjwt; raises 55000 if it has none of this name. */
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
 * Open libjwt unless it is open.  Raises 58P01 if it is not installed, 55000
 * if it is not usable in this process.
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
				 errdetail("Another module of this session uses it, bound to the server's function json_object, with which libjwt would crash."),
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
 * Decode a token, without looking at its signature; NULL if libjwt cannot.
 * The result is malloc'ed: nothing may raise before oa_jwt_free().  The token
 * must be in the form of base64url.c, and its JSON in that of strict_json.c.
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

/* A string of the header; NULL if it has none of this name.  Dies with "jwt". */
const char *
oa_jwt_header(OaJwt *jwt, const char *name)
{
	return library.get_header(jwt, name);
}

/* A string among the claims; NULL if there is none.  Dies with "jwt". */
const char *
oa_jwt_claim(OaJwt *jwt, const char *name)
{
	return library.get_grant(jwt, name);
}
