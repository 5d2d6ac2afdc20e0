/*
 * credits.h
 *		Prepaid credits of orgs.
 */
#ifndef OA_CREDITS_H
#define OA_CREDITS_H

#include "overten_auth.h"

/* credit_erasure.c */
extern void oa_erase_credits(text *org_id);

#endif							/* OA_CREDITS_H */
