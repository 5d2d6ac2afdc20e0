
# Tables and types of the extension that their owner has changed: with NULL where there
# was NOT NULL, with columns of another type, or with something else under the name of a
# table.  Every function works or raises an error that says so, and the server runs on.
# A role that owns a table, and is no superuser, can do that.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WholeSurface;

my $node = create_node('changed', surface_settings('postgres') . "overten_auth.key_features = 'expiry, disable, scopes, addresses, people, details, environments, rotation'\n");
my $org = create_org($node, 'Changed');
my ($secret, $key) = mint($node, $org);
my $token = surface_token('ada');

# A row in every table
ask($node, <<"EOQ");
INSERT INTO overten_auth.scopes (name, description, self_service) VALUES ('read', 'Reads', true);
SELECT overten_set_api_access('$org', true), overten_add_member('$org', 'ada'), overten_invite('$org', 'Eve');
SELECT overten_set_limit('key', '$key', 'burst', 1000, '1 hour'), overten_set_limit('org', '$org', 'daily', 1000, '1 day');
SELECT overten_grant('$org', 100, 'first', 'payment'), overten_spend('$org', 1, 'second', 'use'), overten_hold('$org', 5, 'third');
SELECT overten_set_key_details('$org', '$key', 'the first', '{"a": 1}'), overten_load_signing_keys('${\surface_document('key-1')}');
SELECT overten_rotate_webhook_secret('$org', '1 hour'), overten_rotate_key('$org', '$key');
SELECT overten_verify_key('$secret'), overten_admit('$secret');
SELECT overten_flush_usage();
SELECT overten_revoke_key('$org', (SELECT key_id FROM overten_auth.api_keys WHERE key_id <> '$key'), 'not used');
INSERT INTO overten_auth.key_usage (key_id, hour, client_addr, accepted, refused, first_used_at, last_used_at)
	SELECT key_id, date_trunc('hour', now()), '192.0.2.1', 5, 5, now(), now() FROM overten_auth.api_keys;
EOQ
my $headers = "SELECT set_config('request.headers', json_build_object('authorization', 'Bearer $token', 'x-overten-org-id', '$org', 'x-overten-key-id', '$key', 'idempotency-key', 'once')::text, false) IS NOT NULL";
my $made = ask($node, qq($headers; SELECT overten_api.create_api_key('{"name": "over HTTP"}') ->> 'key_id'));
like($made, qr/key_/, 'there is a row in each table');

# Calls, of which each reads what an owner can change
my @calls = (
	"SELECT * FROM overten_verify_key('$secret')", "SELECT * FROM overten_admission('$secret')", "SELECT overten_authenticate('$secret')", "SELECT overten_charge('$key', 1)",
	"SELECT * FROM overten_limit_status('$org')", "SELECT * FROM overten_list_limits('$org')", "SELECT overten_drop_limit('key', '$key', 'burst')",
	"SELECT * FROM overten_list_keys('$org')", "SELECT * FROM overten_find_keys('$org')", "SELECT * FROM overten_key_restrictions('$org', '$key')", "SELECT * FROM overten_describe_key('$org', '$key')",
	"SELECT * FROM overten_key_details('$org', '$key')", "SELECT * FROM overten_rotate_key('$org', '$key')", "SELECT * FROM overten_rotation_progress('$org', '$key')",
	"SELECT overten_set_expiry('$org', '$key', '2101-01-01')", "SELECT overten_set_scopes('$org', '$key', '{read}')", "SELECT * FROM overten_mint_key('$org')",
	"SELECT overten_import_key('$org', 'x', sha256('x'), 'sk_live_0000')",
	"SELECT * FROM overten_key_usage('$org', '$key')", "SELECT * FROM overten_org_usage('$org', now() - interval '1 day', now())", "SELECT * FROM overten_key_anomalies('$org', '$key')", "SELECT * FROM overten_all_anomalies()",
	"SELECT overten_sign_webhook('$org', 'msg_1', 1, 'x'::text)", "SELECT overten_rotate_webhook_secret('$org')", 'SELECT overten_reseal()',
	"SELECT overten_spend('$org', 1, 'fourth', 'use')", "SELECT * FROM overten_credit_balance('$org')", "SELECT * FROM overten_list_ledger('$org')", "SELECT overten_release('$org', 'third')",
	'SELECT * FROM overten_all_orgs()', "SELECT * FROM overten_list_orgs('ada')", "SELECT * FROM overten_list_members('$org')", "SELECT * FROM overten_list_invitations('$org')",
	"SELECT overten_verify_firebase_jwt('$token')", 'SELECT * FROM overten_status()', 'SELECT * FROM overten_check()',
	"SELECT overten_revoke_leaked('$secret', 'found')", "SELECT overten_purge_keys('$org', now())", "SELECT overten_erase_person('ada')", "SELECT overten_erase_org('$org')",
	map { "SELECT overten_api.$_" } (
		'features()', 'list_organizations()', q{create_api_key('{"name": "over HTTP"}')}, 'verify()', q{signup('{"org_name": "New"}')},
		q{change_api_key('{"description": "d"}')}, q{remove_member('{"item_id": "eve"}')}, q{accept_invitation('{"code": "x"}')},
		'rotate_api_key(NULL)', 'close_organization(NULL)', "show_api_key('$org', '$key')", "key_usage('$org', '$key')", "key_rotation('$org', '$key')",
		map { "$_('$org')" } qw(list_api_keys list_members list_invitations audit_log organization_usage organization_limits organization_credits)));

# Make a change, do all calls, and take everything back.  Returns a SQLSTATE for each
# call, or OK000 if it worked.
ask($node, <<'EOQ');
CREATE FUNCTION states_with(change text, calls text[]) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	states text[] := '{}';
	call text;
BEGIN
	EXECUTE change;
	FOREACH call IN ARRAY calls LOOP
		BEGIN
			EXECUTE call;
			RAISE EXCEPTION USING ERRCODE = 'OK000';
		EXCEPTION WHEN OTHERS THEN
			states := states || SQLSTATE::text;
		END;
	END LOOP;
	RAISE EXCEPTION USING ERRCODE = 'UNDO0', MESSAGE = array_to_string(states, ' ');
EXCEPTION WHEN SQLSTATE 'UNDO0' THEN
	RETURN SQLERRM;
WHEN OTHERS THEN
	RETURN 'cannot be changed: ' || SQLSTATE;
END
$$;
-- Each table without what keeps its columns as they are, and then one column changed
CREATE FUNCTION changes() RETURNS TABLE (what text, change text) LANGUAGE sql AS $$
	SELECT format('%s.%s %s', c.relname, a.attname, how.name),
		format('ALTER TABLE overten_auth.%I DISABLE TRIGGER USER; ', c.relname)
		|| (SELECT coalesce(string_agg(format('ALTER TABLE %s DROP CONSTRAINT IF EXISTS %I CASCADE; ', k.conrelid::regclass, k.conname), ''), '') FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype <> 'n')
		|| format('ALTER TABLE overten_auth.%I ENABLE TRIGGER USER; ', c.relname)
		|| CASE WHEN c.relname IN ('audit_log', 'credit_ledger') THEN format('ALTER TABLE overten_auth.%I DISABLE TRIGGER USER; ', c.relname) ELSE '' END
		|| format(how.form, c.relname, a.attname)
	FROM pg_class c
	JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped,
	(VALUES ('is NULL', 'ALTER TABLE overten_auth.%1$I ALTER %2$I DROP NOT NULL; UPDATE overten_auth.%1$I SET %2$I = NULL'),
		('is a number', 'ALTER TABLE overten_auth.%1$I ALTER %2$I DROP DEFAULT; ALTER TABLE overten_auth.%1$I ALTER %2$I TYPE int USING 5'),
		('is a text', 'ALTER TABLE overten_auth.%1$I ALTER %2$I DROP DEFAULT; ALTER TABLE overten_auth.%1$I ALTER %2$I TYPE text USING ''x''')) how (name, form)
	WHERE c.relnamespace = 'overten_auth'::regnamespace AND c.relkind = 'r'
	ORDER BY 1
$$;
EOQ
my $array = join ', ', map { "\$call\$$_\$call\$" } @calls;
my @outcomes = grep { / is / } split /\n/, ask($node, "$headers; SELECT what || ': ' || states_with(change, ARRAY[$array]) FROM changes()");
my @changed = grep { !/cannot be changed/ } @outcomes;
cmp_ok(scalar @changed, '>', 300, 'columns can be changed in many ways');
is(scalar(grep { /: (\w{5} ){${\$#calls}}\w{5}$/ } @changed), scalar @changed, 'and the server survives each call with each of them');
is(join("\n", grep { /XX/ } @changed), '', 'without an error that is internal');
cmp_ok(scalar(grep { /55000/ } @changed), '>', 50, 'what has changed is named instead');

# The states of some calls with another change, after these calls without it
sub states
{
	my ($change, @some) = @_;

	return ask($node, join '; ', @some, "SELECT states_with(\$change\$$change\$change\$, ARRAY[${\join ', ', map { qq{\$call\$$_\$call\$} } @some}])") =~ s/.*\n//sr;
}
my $verify = "SELECT org_id FROM overten_verify_key('$secret')";
my $admission = "SELECT outcome FROM overten_admission('$secret')";
my $identify = "SELECT uid FROM overten_verify_firebase_jwt('$token')";
foreach my $table ([ 'api_keys', $verify ], [ 'orgs', $verify ], [ 'limits', $admission ], [ 'signing_keys', $identify ])
{
	my ($name, $call) = @$table;
	my $away = "ALTER TABLE overten_auth.$name RENAME TO old";

	foreach my $instead ("VIEW overten_auth.$name AS SELECT * FROM overten_auth.old", "TABLE overten_auth.$name (LIKE overten_auth.old) PARTITION BY LIST (${\($name eq 'limits' ? 'scope' : $name eq 'signing_keys' ? 'kid' : 'org_id')})")
	{
		is(states("$away; CREATE $instead", $call), '55000', "$instead is refused");
	}
}
foreach my $type ([ 'verified_key', 'org_id', $verify ], [ 'admission', 'outcome', $admission ], [ 'verified_token', 'uid', $identify ],
	[ 'http_response', 'body', "SELECT body FROM overten_handle_request('GET', '/api/v1/verify', '{}', NULL)" ])
{
	my ($name, $column, $call) = @$type;

	is(states("ALTER TYPE overten_auth.$name ALTER ATTRIBUTE $column TYPE name", $call), '55000', "$name is refused that has changed since it was returned");
}
my $rule = 'overten_auth.anomaly_rise';
is( states("ALTER FUNCTION $rule RENAME TO old; CREATE FUNCTION $rule(text, timestamptz, timestamptz[], inet[], int8[], int8[], int8[], timestamptz[], timestamptz[]) RETURNS SETOF text LANGUAGE sql AS \$\$SELECT 'rise'\$\$",
		$headers, "SELECT overten_api.key_usage('$org', '$key')") =~ s/.* //r,
	'55000', 'so is a rule about anomalies with fewer columns');
is(states('ALTER FUNCTION overten_slot(text) CALLED ON NULL INPUT; ALTER FUNCTION overten_slot(bytea) CALLED ON NULL INPUT', 'SELECT overten_slot(NULL::text)', 'SELECT overten_slot(NULL::bytea)'),
	'OK000 OK000', 'functions take NULL that are not STRICT');

# What a statement should write, and does not, because a rule or a trigger is in the way
ask($node, 'CREATE FUNCTION skip() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NULL; END$$');
my @ways = map { ("RULE r AS ON $_ TO overten_auth.%1\$I DO INSTEAD NOTHING", "TRIGGER a BEFORE $_ ON overten_auth.%1\$I FOR EACH ROW EXECUTE FUNCTION skip()") } qw(INSERT UPDATE DELETE);
@outcomes = split /\n/, ask($node, "$headers; SELECT states_with(format('CREATE ' || way, relname), ARRAY[$array]) FROM pg_class, unnest(ARRAY[${\join ', ', map { qq{'$_'} } @ways}]) way WHERE relnamespace = 'overten_auth'::regnamespace AND relkind = 'r'");
shift @outcomes;
is(scalar(grep { /^(\w{5} ){${\$#calls}}\w{5}$/ } @outcomes), scalar @outcomes, 'the server survives statements that write nothing');
cmp_ok(scalar @outcomes, '>', 50, 'of each table');
is(is_accepted($node, $secret), 1, 'the key is as good as before');

$node->stop;
done_testing();
