/*
 * choices.c
 *		Lists what customers may choose themselves: tiers when they sign up,
 *		and scopes for their keys.
 */
#include "postgres.h"

#include "members/members.h"
#include "server/server.h"

/*
 * Run a statement that returns names and descriptions, and call back for each
 * row.  The callback's arguments are valid only during the call.
 */
static void
list_choices(OaStatement *list, OaChoiceCallback callback, void *argument)
{
	int			level = oa_statements_begin();
	int			count = (int) oa_statement_run(list, NULL, NULL);

	for (int row = 0; row < count; row++)
		callback(oa_statement_text(row, 1), oa_statement_text_or_null(row, 2),
				 argument);
	oa_statements_end(level);
}

/* Call back for each tier that customers may sign up for, by name. */
void
oa_list_tier_choices(OaChoiceCallback callback, void *argument)
{
	static OaStatement list = {
		.table = "tiers",
		.text = "SELECT name, NULL::text FROM overten_auth.tiers "
		"WHERE self_service ORDER BY name",
	};

	list_choices(&list, callback, argument);
}

/* Call back for each scope that customers may give to keys, by name. */
void
oa_list_scope_choices(OaChoiceCallback callback, void *argument)
{
	static OaStatement list = {
		.table = "scopes",
		.text = "SELECT name, description FROM overten_auth.scopes "
		"WHERE self_service ORDER BY name",
	};

	list_choices(&list, callback, argument);
}
