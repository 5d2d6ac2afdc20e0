
# A role with CREATE on the database makes a schema of another role's name, which the
# default search_path begins with, and puts functions, operators and casts there that
# take what they are given.  Nothing of that is called for any role of the recipes in docs/
# and of gateway/roles.sql, nor by what logs in as them.  pg_regress has no HTTP.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use GatewayTest;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = create_api_node('planted', '');
my $org = create_org($node, 'Org');
ask($node, "SELECT overten_set_api_access('$org', true), overten_add_member('$org', 'ada')");
my ($secret) = mint($node, $org);
my $superuser = getpwuid $<;

# The adversary, and what it plants for whoever has the name of a schema: functions
# with the arguments of the extension's, and of the server's that are called by those
# who log in; the same for types of its own, which everything can be cast to; and
# operators.
ask($node, <<'EOQ');
CREATE ROLE mallory LOGIN;
GRANT CREATE ON DATABASE postgres TO mallory;
EOQ
$node->safe_psql('postgres', <<'EOQ', extra_params => [ '-U', 'mallory' ]);
CREATE SCHEMA mallory;
CREATE TABLE mallory.loot (owner name, what text, taken text);
CREATE FUNCTION mallory.plant(owner name) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	f record;
	o record;
	body text;
BEGIN
	EXECUTE format('CREATE SCHEMA %I', owner);
	EXECUTE format('GRANT USAGE ON SCHEMA %I TO PUBLIC', owner);
	FOR f IN
		SELECT p.proname AS name, p.pronargs AS nargs, oidvectortypes(p.proargtypes) AS arguments
		FROM pg_proc p
		WHERE (p.proname LIKE 'overten\_%' AND p.pronamespace = 'public'::regnamespace
			OR p.proname IN ('set_config', 'current_setting', 'has_schema_privilege', 'has_function_privilege', 'oidvectortypes',
				'lower', 'substr', 'strpos', 'split_part', 'now', 'json_agg', 'quote_ident')
				AND p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind = 'f' AND p.provariadic = 0)
		AND NOT EXISTS (SELECT FROM pg_type t WHERE t.oid = ANY (p.proargtypes) AND t.typtype = 'p')
	LOOP
		body := format('BEGIN INSERT INTO mallory.loot VALUES (%L, %L, concat_ws('' '', ''given''%s)); RETURN NULL; END',
			owner, f.name, (SELECT string_agg(', $' || i::text, '') FROM generate_series(1, f.nargs) i));
		EXECUTE format('CREATE FUNCTION %I.%I(%s) RETURNS text SECURITY DEFINER LANGUAGE plpgsql AS %L',
			owner, f.name, f.arguments, body);
	END LOOP;

	-- A type that texts are cast to without being asked, and functions that take it.
	EXECUTE format('CREATE TYPE %I.text AS (taken text)', owner);
	body := format('BEGIN INSERT INTO mallory.loot VALUES (%L, ''cast'', $1); RETURN ROW($1); END', owner);
	EXECUTE format('CREATE FUNCTION %I.take(pg_catalog.text) RETURNS %1$I.text SECURITY DEFINER LANGUAGE plpgsql AS %L', owner, body);
	EXECUTE format('CREATE CAST (pg_catalog.text AS %I.text) WITH FUNCTION %1$I.take(pg_catalog.text) AS IMPLICIT', owner);
	FOR f IN
		SELECT DISTINCT p.proname AS name FROM pg_proc p
		WHERE p.proname LIKE 'overten\_%' AND p.pronargs = 1 AND p.pronamespace = 'public'::regnamespace
	LOOP
		body := format('BEGIN INSERT INTO mallory.loot VALUES (%L, %L, ''by a cast''); RETURN NULL; END', owner, f.name);
		EXECUTE format('CREATE FUNCTION %I.%I(%1$I.text) RETURNS pg_catalog.text SECURITY DEFINER LANGUAGE plpgsql AS %3$L', owner, f.name, body);
	END LOOP;

	FOR o IN
		SELECT oid, oprname AS name, oprleft::regtype AS l, oprright::regtype AS r FROM pg_operator
		WHERE oprname IN ('=', '<>', '||') AND oprleft IN ('text'::regtype, 'name'::regtype, 'oid'::regtype, 'oidvector'::regtype)
			AND oprright = oprleft AND oprnamespace = 'pg_catalog'::regnamespace
	LOOP
		body := format('BEGIN INSERT INTO mallory.loot VALUES (%L, %L, concat_ws('' '', $1, $2)); RETURN true; END', owner, o.name);
		EXECUTE format('CREATE FUNCTION %I.%I(%s, %s) RETURNS boolean SECURITY DEFINER LANGUAGE plpgsql AS %L',
			owner, 'compare_' || o.oid, o.l, o.r, body);
		EXECUTE format('CREATE OPERATOR %I.%s (leftarg = %s, rightarg = %s, function = %1$I.%5$I)',
			owner, o.name, o.l, o.r, 'compare_' || o.oid);
	END LOOP;
END $$;
EOQ

# Plant a schema for somebody.
sub plant
{
	my ($who) = @_;
	$node->safe_psql('postgres', "SELECT mallory.plant('$who')", extra_params => [ '-U', 'mallory' ]);
}

# What was taken since the last time.
sub loot
{
	return ask($node, q{WITH taken AS (DELETE FROM mallory.loot RETURNING *)
		SELECT DISTINCT owner || ': ' || what FROM taken ORDER BY 1});
}

# The recipes, run word for word by a superuser for whom something is planted, too.
plant($superuser);
my $documents = join "\n", map { slurp_file("$FindBin::RealBin/../../docs/$_.md") } qw(credits keys nginx operations scaling);
my @recipes = grep { /^ *(CREATE ROLE|GRANT .* TO service)/m } $documents =~ /^ *```sql\n(.*?)^ *```$/msg;
s/^\\.*\n//m foreach @recipes;    # psql's own commands
is(scalar @recipes, 7, 'recipes of docs/');
ask($node, $_) foreach @recipes;
is(loot(), '', 'nothing was called while they were run');
my @roles = split /\n/, ask($node, q{SELECT rolname FROM pg_roles
	WHERE rolname !~ '^pg_' AND NOT rolsuper AND rolname <> 'mallory' ORDER BY 1});
my %login = map { $_ => 1 } split /\n/, ask($node, 'SELECT rolname FROM pg_roles WHERE rolcanlogin');
is(join(' ', @roles), 'application cashier monitoring operator overten_authenticator overten_gateway overten_nginx overten_services overten_uses overten_web responder service spender webhook_sender',
	'their roles');
plant($_) foreach @roles;
my $pinned = q{SELECT r.rolname FROM pg_db_role_setting s JOIN pg_roles r ON r.oid = s.setrole
	WHERE s.setdatabase = 0 AND s.setconfig && '{"search_path=pg_catalog, public, pg_temp","search_path=pg_catalog, pg_temp"}' ORDER BY 1};
is_deeply([ split /\n/, ask($node, $pinned) ], \@roles, 'each has a search_path of its own, also one that does not log in');

# Each role calls all that it may, by names alone, with literals and with parameters of
# the declared types.
sub calls_of
{
	my ($role) = @_;

	return split /\n/, ask($node, <<"EOQ");
SELECT format('SELECT * FROM %s(%s);', p.proname, arguments)
FROM pg_proc p,
	LATERAL (SELECT string_agg('''x''', ', '), string_agg('NULL::' || format_type(t, NULL), ', ')
		FROM unnest(p.proargtypes) t) a (unknown, typed),
	unnest(ARRAY[coalesce(unknown, ''), coalesce(typed, '')]) arguments
WHERE p.pronamespace = 'public'::regnamespace AND p.proname LIKE 'overten\\_%'
	AND has_function_privilege('$role', p.oid, 'EXECUTE')
ORDER BY 1
EOQ
}

foreach my $role (grep { $login{$_} } @roles)
{
	my @calls = (calls_of($role), "SELECT lower('x'), now(), 'a'::text = 'b'::text, set_config('a.b', 'x', true), current_setting('a.b', true);");

	cmp_ok(scalar @calls, '>', $role =~ /^overten_(authenticator|nginx|uses)$/ ? 0 : 2, "$role: calls");
	$node->psql('postgres', join("\n", @calls), extra_params => [ '-U', $role ], on_error_stop => 0);
	is(loot(), '', "$role: nothing that was planted is called");
}

# As PostgREST does it, whose sessions are one role's and run requests as another.
my @web_calls = calls_of('overten_web');
cmp_ok(scalar @web_calls, '>', 2, 'overten_web: calls');
$node->psql('postgres', join("\n", 'SET ROLE overten_web;', @web_calls), extra_params => [ '-U', 'overten_authenticator' ], on_error_stop => 0);
is(loot(), '', 'overten_authenticator as overten_web: nothing that was planted is called');

# Without a path of their own it would be: the roles' settings are what keeps it out.
ask($node, 'ALTER ROLE application RESET search_path');
$node->psql('postgres', "SELECT overten_verify_key('$secret')", extra_params => [ '-U', 'application' ]);
is(loot(), 'application: overten_verify_key', 'with the default path it is');

# What logs in as them.  The gateway does not count on the role's setting, nor on its
# own where a pooler gives it another session.
my $good = "Authorization: Bearer $secret";
my $ada = 'Authorization: Bearer ' . sign('ada');

sub use_api
{
	my ($url) = @_;

	is(summary(request($url, 'GET', '/api/v1/verify', [$good])), '200', 'a key') foreach 1 .. 3;
	is(summary(request($url, 'GET', "/api/v1/organizations/$org/api-keys", [$ada])), '200', 'a list');
	is(summary(request($url, 'POST', "/api/v1/organizations/$org/api-keys", [ $ada, 'Content-Type: application/json' ], '{}')), '201', 'a new key');
}

ask($node, 'ALTER ROLE overten_gateway RESET search_path');
my $gateway = start_gateway($node, 'planted_gateway');
use_api($gateway->{url});
is(request($gateway->{url}, 'GET', '/readyz')->{status}, 200, 'readyz');
is(loot(), '', 'the gateway calls nothing that was planted');
my $bouncer = start_pgbouncer($node, 'planted_pgbouncer');
my $pooled = start_gateway($node, 'planted_pooled', PREPARE => 'off', PGHOST => $bouncer->{folder}, PGPORT => $bouncer->{port});
use_api($pooled->{url});
is(request($pooled->{url}, 'GET', '/readyz')->{status}, 200, 'readyz');
is(loot(), '', 'nor through a pooler');

my $postgrest = start_postgrest($node, 'planted_contract');
my $port = free_port();
my $nginx = start_nginx('planted_nginx', 'nginx.conf', $port,
	'127.0.0.1:8080' => "127.0.0.1:$port",
	'127.0.0.1:8443' => '127.0.0.1:' . free_port(),
	'127.0.0.1:3000' => "127.0.0.1:$postgrest->{port}");
use_api("http://127.0.0.1:$port");
is(loot(), '', 'PostgREST calls nothing that was planted');
stop_process($_) foreach $nginx, $postgrest, $pooled, $bouncer, $gateway;
done_testing();
