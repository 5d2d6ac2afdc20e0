/*
 * postgrest.h
 *		How an endpoint becomes a function for PostgREST.
 */
#ifndef OA_POSTGREST_H
#define OA_POSTGREST_H

#include "http/http.h"

/* Used instead of the number of the argument that holds the body. */
#define OA_NO_BODY		(-1)

/* postgrest.c */
extern Datum oa_answer_call(OaEndpoint endpoint, FunctionCallInfo fcinfo,
							int n, OaRequest *request);
extern Datum oa_answer_empty(OaEndpoint endpoint, FunctionCallInfo fcinfo);
extern text *oa_path_argument(FunctionCallInfo fcinfo, int n);

#endif							/* OA_POSTGREST_H */
