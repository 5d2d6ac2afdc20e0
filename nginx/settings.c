/*
 * settings.c
 *		The module's directives and variables.
 *
 *	overten_auth on | off;				(http, server, location)
 *	overten_auth_cost COST;				what a request takes of limits; 1
 *	overten_auth_scope "NAME ...";		scopes that it needs; none
 *	overten_auth_api_key_header NAME | off;	in which keys come, too; off
 *	overten_auth_database "CONNINFO";	(http) libpq's connection string
 *	overten_auth_schema NAME;			of the extension's functions; public
 *	overten_auth_connections NUMBER;	of each worker; 2
 *	overten_auth_max_waiting NUMBER;	questions of each worker; 10000
 *	overten_auth_connect_timeout TIME;	3s
 *	overten_auth_timeout TIME;			of an answer; 5s
 *	overten_auth_connection_life TIME;	how long a connection is used; 5m
 *	overten_auth_prepare on | off;		off where a pool of connections cannot keep
 *										prepared statements
 *
 * $overten_auth_key_id, $overten_auth_org_id, $overten_auth_tier and
 * $overten_auth_key_prefix are percent-encoded, so that they can be put into headers;
 * $overten_auth_limit_remaining is what the limit leaves that matters.  They are empty
 * unless the request was admitted.
 */
#include "overten_auth.h"

static ngx_int_t
told_variable(ngx_http_request_t *request, ngx_http_variable_value_t *value,
			  uintptr_t which)
{
	OaQuestion *question = oa_question_of(request);

	value->not_found = question == NULL || question->status != NGX_HTTP_OK;
	if (value->not_found)
		return NGX_OK;
	value->data = question->told[which].data;
	value->len = question->told[which].len;
	value->valid = 1;
	return NGX_OK;
}

/* The number after ";r=". */
static ngx_int_t
remaining_variable(ngx_http_request_t *request, ngx_http_variable_value_t *value,
				   uintptr_t data)
{
	OaQuestion *question = oa_question_of(request);
	u_char	   *end;
	u_char	   *at;

	value->not_found = 1;
	if (question == NULL || question->status != NGX_HTTP_OK ||
		question->limit.len == 0)
		return NGX_OK;
	end = question->limit.data + question->limit.len;
	at = ngx_strlcasestrn(question->limit.data, end, (u_char *) ";r=", 3 - 1);
	if (at == NULL)
		return NGX_OK;
	value->data = at + 3;
	for (at += 3; at < end && *at >= '0' && *at <= '9'; at++)
		;
	value->len = at - value->data;
	value->not_found = 0;
	value->valid = 1;
	return NGX_OK;
}

static ngx_http_variable_t variables[] = {
	{ngx_string("overten_auth_key_id"), NULL, told_variable, OA_TOLD_KEY_ID, NGX_HTTP_VAR_NOCACHEABLE, 0},
	{ngx_string("overten_auth_org_id"), NULL, told_variable, OA_TOLD_ORG_ID, NGX_HTTP_VAR_NOCACHEABLE, 0},
	{ngx_string("overten_auth_tier"), NULL, told_variable, OA_TOLD_TIER, NGX_HTTP_VAR_NOCACHEABLE, 0},
	{ngx_string("overten_auth_key_prefix"), NULL, told_variable, OA_TOLD_KEY_PREFIX, NGX_HTTP_VAR_NOCACHEABLE, 0},
	{ngx_string("overten_auth_limit_remaining"), NULL, remaining_variable, 0, NGX_HTTP_VAR_NOCACHEABLE, 0},
	ngx_http_null_variable
};

static ngx_int_t
add_variables(ngx_conf_t *cf)
{
	for (ngx_http_variable_t *variable = variables; variable->name.len > 0;
		 variable++)
	{
		ngx_http_variable_t *added = ngx_http_add_variable(cf, &variable->name,
														   variable->flags);

		if (added == NULL)
			return NGX_ERROR;
		added->get_handler = variable->get_handler;
		added->data = variable->data;
	}
	return NGX_OK;
}

static void *
create_settings(ngx_conf_t *cf)
{
	OaSettings *settings = ngx_pcalloc(cf->pool, sizeof(OaSettings));

	if (settings == NULL)
		return NULL;
	settings->connections = NGX_CONF_UNSET;
	settings->max_waiting = NGX_CONF_UNSET;
	settings->connect_timeout = NGX_CONF_UNSET_MSEC;
	settings->timeout = NGX_CONF_UNSET_MSEC;
	settings->connection_life = NGX_CONF_UNSET_MSEC;
	settings->prepare = NGX_CONF_UNSET;
	return settings;
}

static const ngx_str_t public_schema = ngx_string("public");

static char *
init_settings(ngx_conf_t *cf, void *conf)
{
	OaSettings *settings = conf;

	ngx_conf_init_value(settings->connections, 2);
	ngx_conf_init_value(settings->max_waiting, 10000);
	ngx_conf_init_msec_value(settings->connect_timeout, 3000);
	ngx_conf_init_msec_value(settings->timeout, 5000);
	ngx_conf_init_msec_value(settings->connection_life, 300000);
	ngx_conf_init_value(settings->prepare, 1);
	if (settings->schema.data == NULL)
		settings->schema = public_schema;
	if (settings->connections < 1 || settings->max_waiting < 1 ||
		settings->connect_timeout < 1 || settings->timeout < 1 ||
		settings->connection_life < 1)
	{
		ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
						   "overten_auth_connections, overten_auth_max_waiting, overten_auth_connection_life and the timeouts must be at least 1");
		return NGX_CONF_ERROR;
	}
	return NGX_CONF_OK;
}

static void *
create_location(ngx_conf_t *cf)
{
	OaLocation *location = ngx_pcalloc(cf->pool, sizeof(OaLocation));

	if (location != NULL)
		location->enabled = NGX_CONF_UNSET;
	return location;
}

static char *
merge_location(ngx_conf_t *cf, void *parent, void *child)
{
	OaLocation *outer = parent;
	OaLocation *location = child;
	OaSettings *settings = ngx_http_conf_get_module_main_conf(cf,
															  ngx_http_overten_auth_module);

	ngx_conf_merge_value(location->enabled, outer->enabled, 0);
	if (location->cost == NULL)
		location->cost = outer->cost;
	if (location->scope == NULL)
		location->scope = outer->scope;
	ngx_conf_merge_str_value(location->api_key_header, outer->api_key_header, "");
	if (location->enabled && settings->database.len == 0)
	{
		ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
						   "overten_auth is on, but there is no overten_auth_database");
		return NGX_CONF_ERROR;
	}
	return NGX_CONF_OK;
}

/* Can a header of this name be one in which keys come?  nginx reads others itself. */
static ngx_flag_t
can_have_keys(const ngx_str_t *name)
{
	OaText		wanted = oa_text((const char *) name->data, name->len);

	if (name->len == 0 || oa_is_ours(wanted))
		return 0;
	for (size_t i = 0; i < name->len; i++)
	{
		u_char		c = ngx_tolower(name->data[i]);

		if (c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'z'))
			return 0;
	}
	for (const ngx_http_header_t *known = ngx_http_headers_in;
		 known->name.len > 0; known++)
		if (oa_are_same_name(wanted, oa_text((const char *) known->name.data,
											 known->name.len)))
			return 0;
	return 1;
}

/* overten_auth_api_key_header */
static char *
set_api_key_header(ngx_conf_t *cf, ngx_command_t *command, void *conf)
{
	static const ngx_str_t none = ngx_string("");
	OaLocation *location = conf;
	const ngx_str_t *name = (ngx_str_t *) cf->args->elts + 1;

	if (location->api_key_header.data != NULL)
		return "is duplicate";
	if (ngx_strcmp(name->data, "off") == 0)
		location->api_key_header = none;
	else if (can_have_keys(name))
		location->api_key_header = *name;
	else
		return "is not the name of a header that means nothing else, such as X-API-Key, or off";
	return NGX_CONF_OK;
}

/* Is each host of a list an address, or the folder of a socket? */
static ngx_flag_t
are_addresses(const char *hosts)
{
	struct in6_addr address;
	char		host[INET6_ADDRSTRLEN];

	for (;;)
	{
		size_t		length = strcspn(hosts, ",");

		ngx_cpystrn((u_char *) host, (u_char *) hosts,
					ngx_min(length + 1, sizeof(host)));
		if (length > 0 && host[0] != '/' && host[0] != '@' &&
			inet_pton(AF_INET, host, &address) != 1 &&
			inet_pton(AF_INET6, host, &address) != 1)
			return 0;
		if (hosts[length] == '\0')
			return 1;
		hosts += length + 1;
	}
}

/* libpq resolves names in the worker, which does nothing else meanwhile. */
static void
warn_of_names(ngx_conf_t *cf, const PQconninfoOption *options)
{
	const char *host = NULL;
	const char *address = NULL;

	for (; options->keyword != NULL; options++)
	{
		if (ngx_strcmp(options->keyword, "host") == 0)
			host = options->val;
		if (ngx_strcmp(options->keyword, "hostaddr") == 0)
			address = options->val;
	}
	if (address == NULL && host != NULL && !are_addresses(host))
		ngx_conf_log_error(NGX_LOG_WARN, cf, 0,
						   "a host in overten_auth_database is a name, and a worker stands still while it is looked up: add hostaddr");
}

/* overten_auth_database */
static char *
set_database(ngx_conf_t *cf, ngx_command_t *command, void *conf)
{
	OaSettings *settings = conf;
	ngx_str_t  *arguments = cf->args->elts;
	PQconninfoOption *options;
	char	   *error = NULL;

	if (settings->database.data != NULL)
		return "is duplicate";
	if (arguments[1].len == 0)
		return "is empty";
	options = PQconninfoParse((const char *) arguments[1].data, &error);
	if (options == NULL)
	{
		/* libpq's message could have a password in it. */
		PQfreemem(error);
		return "is no connection string of libpq";
	}
	warn_of_names(cf, options);
	PQconninfoFree(options);
	settings->database = arguments[1];
	return NGX_CONF_OK;
}

/* A directive that is for all requests, and one of locations with all around them. */
#define FOR_ALL(name, arguments, set, member) \
	{ngx_string(name), NGX_HTTP_MAIN_CONF | (arguments), set, \
		NGX_HTTP_MAIN_CONF_OFFSET, offsetof(OaSettings, member), NULL}
#define OF_LOCATION(name, arguments, set, member) \
	{ngx_string(name), NGX_HTTP_MAIN_CONF | NGX_HTTP_SRV_CONF | \
		NGX_HTTP_LOC_CONF | (arguments), set, \
		NGX_HTTP_LOC_CONF_OFFSET, offsetof(OaLocation, member), NULL}

static ngx_command_t commands[] = {
	OF_LOCATION("overten_auth", NGX_CONF_FLAG,
				ngx_conf_set_flag_slot, enabled),
	OF_LOCATION("overten_auth_cost", NGX_CONF_TAKE1,
				ngx_http_set_complex_value_slot, cost),
	OF_LOCATION("overten_auth_scope", NGX_CONF_TAKE1,
				ngx_http_set_complex_value_slot, scope),
	OF_LOCATION("overten_auth_api_key_header", NGX_CONF_TAKE1,
				set_api_key_header, api_key_header),
	FOR_ALL("overten_auth_database", NGX_CONF_TAKE1,
			set_database, database),
	FOR_ALL("overten_auth_schema", NGX_CONF_TAKE1,
			ngx_conf_set_str_slot, schema),
	FOR_ALL("overten_auth_connections", NGX_CONF_TAKE1,
			ngx_conf_set_num_slot, connections),
	FOR_ALL("overten_auth_max_waiting", NGX_CONF_TAKE1,
			ngx_conf_set_num_slot, max_waiting),
	FOR_ALL("overten_auth_connect_timeout", NGX_CONF_TAKE1,
			ngx_conf_set_msec_slot, connect_timeout),
	FOR_ALL("overten_auth_timeout", NGX_CONF_TAKE1,
			ngx_conf_set_msec_slot, timeout),
	FOR_ALL("overten_auth_connection_life", NGX_CONF_TAKE1,
			ngx_conf_set_msec_slot, connection_life),
	FOR_ALL("overten_auth_prepare", NGX_CONF_FLAG,
			ngx_conf_set_flag_slot, prepare),
	ngx_null_command
};

static ngx_http_module_t context = {
	.preconfiguration = add_variables,
	.postconfiguration = oa_install_handlers,
	.create_main_conf = create_settings,
	.init_main_conf = init_settings,
	.create_loc_conf = create_location,
	.merge_loc_conf = merge_location,
};

ngx_module_t ngx_http_overten_auth_module = {
	NGX_MODULE_V1,
	.ctx = &context,
	.commands = commands,
	.type = NGX_HTTP_MODULE,
	.init_process = oa_init_process,
	.exit_process = oa_exit_process,
};
