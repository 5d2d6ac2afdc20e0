
# A database that is dumped and restored, into another server too, verifies,
# refuses, mints and tells the history as before; its webhook secrets open where
# the master key file is.  pg_regress runs no pg_dump.

use strict;
use warnings FATAL => 'all';

use File::Copy qw(copy);
use FindBin;
use lib $FindBin::RealBin;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = create_node('original', '');
my $other = PostgreSQL::Test::Cluster->new('other');
$other->init;
$other->start;
ask($_, 'CREATE ROLE app') foreach ($node, $other);

ask($node, <<'EOQ');
GRANT USAGE ON SCHEMA overten_auth TO app;
GRANT SELECT (key_id, prefix) ON overten_auth.api_keys TO app;
GRANT EXECUTE ON FUNCTION overten_verify_key(text) TO app;
INSERT INTO overten_auth.tiers VALUES ('pro', false), ('trial', true);
EOQ
my $org = ask($node,
	q{SELECT org_id FROM overten_create_org($n$'); DROP TABLE "x"; -- \. $$ \N é$n$, 'pro')}
);
my $plain_org = create_org($node, 'Plain');
my ($active, $active_key) = mint($node, $org);
my ($revoked, $revoked_key) = mint($node, $org);
my ($suspended) = mint($node, $plain_org);
is(verify($node, $active), $active_key, 'a key is used');
ask($node, <<"EOQ");
SELECT overten_revoke_key('$org', '$revoked_key', 'leaked');
UPDATE overten_auth.api_keys SET revoked_at = now() - interval '1 day' WHERE key_id = '$revoked_key';
SELECT overten_set_api_access('$org', true);
SELECT overten_set_api_access('$plain_org', false);
SELECT overten_add_member('$org', 'alice');
SELECT overten_rotate_webhook_secret('$org', '30 days');
SELECT overten_grant('$org', 100, 'Welcome, é', 'payment \\1'), overten_hold('$org', 40, 'held', '1 day'), overten_spend('$org', 20, 'request', E'it''s \\\\N');
SELECT overten_set_key_details('$org', '$active_key', 'dumped', '{"a": "é"}');
SELECT overten_set_limit('tier', 'pro', 'per_second', 7, '1 s', shadow => true);
SELECT overten_set_limit('org', '$org', 'per_hour', 1000, '1 hour', 10, 'org', true);
SELECT overten_set_limit('key', '$active_key', 'per_second', 8, '1 s', shadow => true);
SELECT FROM overten_mint_key('$org', 'test', environment => 'test') m, overten_rotate_key('$org', m.key_id, '0');
SELECT overten_set_limit('org', '$org', 'per_month', 1000, '1 month', per => 'org', shadow => true, anchor => 28);
INSERT INTO overten_auth.quota_usage VALUES ('2026-01-28Z', substr(sha256('subject'), 1, 16), '$org', 7);
INSERT INTO overten_auth.scopes VALUES ('read', 'Read "\n"', true), ('write', '', false);
SELECT overten_invite('$org', 'for Bob'), overten_add_member('$org', 'erased'), overten_erase_person('erased');
INSERT INTO overten_auth.idempotency_keys (uid, name_digest, fingerprint, first_at, last_at, org_id, key_id)
VALUES ('alice', sha256('name'), sha256('request'), now(), now(), '$org', '$active_key');
INSERT INTO overten_auth.key_usage
SELECT key_id, hour, address::inet, 3 * n, n - 1, hour, hour + interval '59 minutes'
FROM (VALUES ('$active_key'), ('$revoked_key')) k (key_id),
	(VALUES (1, '192.0.2.1'), (2, '2001:db8::'), (3, NULL)) v (n, address),
	LATERAL (SELECT date_trunc('hour', now(), 'UTC') - n * interval '1 hour') h (hour);
EOQ

# Keys with every restriction, and an org that was erased.
my ($restricted, $expired, $disabled, $dead) = split /\|/, ask($node, <<"EOQ");
SELECT r.secret, e.secret, d.secret, x.secret
FROM overten_mint_key('$org', 'restricted', '2100-01-01', '{write,read}', '{192.0.2.0/24,2001:db8::/32}') r,
	overten_mint_key('$org', 'expired') e, overten_mint_key('$org', 'disabled') d,
	overten_create_org('Erased') o, overten_mint_key(o.org_id) x;
EOQ
ask($node, <<"EOQ");
SELECT overten_set_expiry(org_id, key_id, '2020-01-01') FROM overten_auth.api_keys WHERE name = 'expired';
SELECT overten_disable_key(org_id, key_id, 'unpaid') FROM overten_auth.api_keys WHERE name = 'disabled';
SELECT overten_close_org(org_id), overten_erase_org(org_id) FROM overten_auth.orgs WHERE name = 'Erased';
EOQ

# A table of one's own that refers to orgs, as docs/operations.md shows it.
my $operations = slurp_file("$FindBin::RealBin/../../docs/operations.md");
my ($create_table) = $operations =~ /^(CREATE TABLE public\.org_billing .*?^\);)$/ms
  or die 'docs/operations.md has no table of one\'s own';
my $own_table = "GRANT CREATE ON SCHEMA public TO app; GRANT USAGE ON SCHEMA overten_auth TO app;
	GRANT REFERENCES (org_id) ON overten_auth.orgs TO app; SET ROLE app; $create_table; RESET ROLE";
ask($node, $own_table);
ask($node, "SET ROLE app; INSERT INTO org_billing VALUES ('$org', 'C-1')");

# Everything that a restore must bring back, as text: all tables that a dump has.
sub content
{
	my $where = shift;

	return ask($where, <<'EOQ');
SET TimeZone = 'UTC';
SELECT format('SELECT %L, t.* FROM %s t ORDER BY t::text', relname, c.oid::regclass)
FROM pg_extension, unnest(extconfig) config JOIN pg_class c ON c.oid = config
WHERE extname = 'overten_auth' ORDER BY relname \gexec
SELECT 'own', b.* FROM org_billing b;
SELECT 'trigger', tgrelid::regclass, tgname, tgenabled FROM pg_trigger
	WHERE NOT tgisinternal ORDER BY 2, 3;
EOQ
}

# What the functions for reading make of it.
sub reports
{
	my $where = shift;

	return ask($where, <<"EOQ");
SET TimeZone = 'UTC';
SELECT * FROM overten_list_keys('$org');
SELECT * FROM overten_find_keys('$org');
SELECT * FROM overten_key_restrictions('$org');
SELECT * FROM overten_list_orgs('alice');
SELECT * FROM overten_credit_balance('$org');
SELECT * FROM overten_list_ledger('$org');
SELECT * FROM overten_all_orgs();
SELECT * FROM overten_list_members('$org');
SELECT * FROM overten_list_invitations('$org');
SELECT * FROM overten_list_limits('$org');
SELECT * FROM overten_key_usage('$org', '$active_key');
SELECT * FROM overten_org_usage('$org', now() - interval '1 day', now());
SELECT kind, client_addr, observed FROM overten_key_anomalies('$org', '$revoked_key');
EOQ
}

# What an org's webhooks are signed with, and the signatures, both in the grace.
sub webhooks
{
	my $where = shift;

	return ask($where, <<"EOQ");
SELECT webhook_secret FROM overten_verify_key('$active');
SELECT overten_sign_webhook('$org', 'msg_1', 1, 'body'::text);
EOQ
}

# What the role may do with the extension.
sub privileges
{
	my $where = shift;

	return ask($where, <<'EOQ');
SELECT proname FROM pg_proc
	WHERE proname LIKE 'overten%' AND has_function_privilege('app', oid, 'EXECUTE');
SELECT has_column_privilege('app', 'overten_auth.api_keys', 'key_id', 'SELECT'),
	has_column_privilege('app', 'overten_auth.api_keys', 'digest', 'SELECT');
EOQ
}

my $content = content($node);
my %rows;
$rows{$1}++ while $content =~ /^(\w+)\|/mg;
is_deeply(
	\%rows,
	{
		tiers => 3,
		scopes => 2,
		orgs => 3,
		members => 2,
		invitations => 1,
		api_keys => 9,
		key_last_used => 8,
		key_details => 1,
		key_usage => 6,
		idempotency_keys => 1,
		credits => 1,
		credit_ledger => 2,
		credit_holds => 1,
		limits => 4,
		quota_usage => 1,
		audit_log => 33,
		own => 1,
		trigger => 6
	},
	'there is something to dump in each table');
my $reports = reports($node);
like($reports, qr/^used_after_revocation\|/m, 'the history tells of a revoked key');
my $webhooks = webhooks($node);
like($webhooks, qr/^whsec_.*\nv1,\S+ v1,\S+$/, 'two webhook secrets sign');
like($content, qr/^trigger\|overten_auth\.\w+\|\w+\|A$/m,
	'triggers are enabled always');
is(privileges($node), "overten_verify_key\nt|f", 'a role has privileges');

# Compare a restored database with the original, and use it.
sub check_restored
{
	my ($where, $how) = @_;

	is(content($where), $content, "$how: the content is the same");
	is(reports($where), $reports, "$how: so is what is reported of it");
	is(verify($where, $active), $active_key, "$how: the key is accepted");
	is(verify($where, $revoked), '', "$how: the revoked one is refused");
	is(sqlstate_of($where, "SELECT overten_spend('$org', 20, 'request'); SELECT overten_spend('$org', 41, 'another')"),
		'53OA2', "$how: a request is not paid for again, and what is held is not spent");
	is(sqlstate_of($where, 'DELETE FROM overten_auth.credit_ledger'), '42501', "$how: the ledger is append-only");
	is(verify($where, $suspended),
		'', "$how: the one of a suspended org is refused");

	is( ask($where, "SELECT r.status FROM unnest('{192.0.2.1,203.0.113.1}'::text[]) addr, overten_handle_request('GET', '/api/v1/verify', json_build_object('authorization', 'Bearer $restricted', 'x-overten-client-addr', addr), NULL::bytea) r"),
		"200\n401", "$how: a restricted key is accepted from its addresses");
	is(verify($where, $_), '', "$how: keys that have expired or are disabled are refused") foreach $expired, $disabled;
	is(sqlstate_of($where, "SELECT overten_import_key('$org', 'again', sha256('$dead'), left('$dead', 12))"),
		'23505', "$how: a key of an org that was erased cannot be imported");

	my ($secret, $key) = mint($where, $org);
	is(verify($where, $secret), $key, "$how: the next key is minted");
	ask($where, "SELECT overten_revoke_key('$org', '$key')");
	is(verify($where, $secret), '', "$how: and revoked");
	is(sqlstate_of($where, "INSERT INTO org_billing VALUES ('org_nobody', 'C-2')"),
		'23503', "$how: the table of one's own refers to orgs");
	return;
}

my $dump = $node->basedir . '/dump';

# Without the owner of the schema public, which is there already.
$node->command_ok(
	[ 'pg_dump', '-Fp', '-f', "$dump.sql", 'postgres' ],
	'pg_dump, plain');
ask($node, 'CREATE DATABASE restored TEMPLATE template0');
$node->command_ok(
	[
		'psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', '-f', "$dump.sql",
		'-o', '/dev/null', 'restored'
	],
	'psql -f');
check_restored([ $node, 'restored' ], 'plain');
is(webhooks([ $node, 'restored' ]), $webhooks, 'plain: webhooks are signed as before');
is(privileges([ $node, 'restored' ]),
	privileges($node), 'plain: privileges are kept');

$node->command_ok([ 'pg_dump', '-Fc', '-f', "$dump.custom", 'postgres' ],
	'pg_dump, custom');
ask($other, 'CREATE DATABASE restored TEMPLATE template0');
$other->command_ok(
	[ 'pg_restore', '-e', '-d', 'restored', "$dump.custom" ],
	'pg_restore into another server');
check_restored([ $other, 'restored' ], 'custom');
is(privileges([ $other, 'restored' ]),
	privileges($node), 'custom: privileges are kept');

# The dump has the sealed values; what opens them is not in it.
my ($result, $stdout, $stderr) = $other->psql('restored',
	"SELECT webhook_secret IS NULL FROM overten_verify_key('$active')");
is($stdout, 't', 'without the master key file the webhook secret is not known');
like($stderr, qr/WARNING:  webhook secrets cannot be unsealed/, 'which a warning says');
my $restored = [ $other, 'restored' ];
is(sqlstate_of($restored, "SELECT overten_sign_webhook('$org', 'msg_1', 1, 'body'::text)"), '55000', 'nothing is signed');
is(sqlstate_of($restored, q{SELECT overten_create_org('New')}), '55000', 'nor sealed');
ok(!-e $other->data_dir . '/overten_auth.key', 'and no other key is made');
copy($node->data_dir . '/overten_auth.key', $other->data_dir . '/overten_auth.key') or die "copy: $!";
chmod 0600, $other->data_dir . '/overten_auth.key' or die "chmod: $!";
is(webhooks($restored), $webhooks, 'with a copy of it webhooks are signed as before');
is(sqlstate_of($restored, q{BEGIN; SELECT overten_create_org('New'); ROLLBACK}), '', 'and new ones sealed');

# An archive does not tell parallel jobs which of an extension's tables have to
# be filled first, so foreign keys must not be checked meanwhile; nor that those of
# others depend on them, so what is after the data has to wait for all of it.
ask($other, 'CREATE DATABASE parallel TEMPLATE template0');
foreach my $section ('pre-data', 'data', 'post-data')
{
	local $ENV{PGOPTIONS} = '-c session_replication_role=replica';
	$other->command_ok(
		[
			'pg_restore', '-e', '-j', '2', "--section=$section", '-d', 'parallel', "$dump.custom"
		],
		"pg_restore in two jobs: $section");
}
check_restored([ $other, 'parallel' ], 'parallel');
is(webhooks([ $other, 'parallel' ]), $webhooks, 'parallel: webhooks are signed as before');

ask($other, 'CREATE DATABASE data_only TEMPLATE template0');
ask([ $other, 'data_only' ], "CREATE EXTENSION overten_auth CASCADE; $own_table");
$other->command_ok(
	[
		'pg_restore', '-e', '--data-only', '-d', 'data_only', "$dump.custom"
	],
	'pg_restore of the data into a new extension');
check_restored([ $other, 'data_only' ], 'data only');
is(webhooks([ $other, 'data_only' ]), $webhooks, 'data only: webhooks are signed as before');

is(content($node), $content, 'the original has not changed');


# The settings of a database are in a dump with -C alone.

# What overten_check() says of the Firebase project.
sub missing_project
{
	my ($where) = @_;

	return ask($where, q{SELECT severity FROM overten_check() WHERE subject = 'overten_auth.firebase_project_id'});
}

ask($node, q{ALTER DATABASE restored RENAME TO app; ALTER DATABASE app SET overten_auth.firebase_project_id = 'my-project'});
$node->command_ok([ 'pg_dump', '-C', '-Fc', '-f', "$dump.app", 'app' ], 'pg_dump -C');
$other->command_ok([ 'pg_restore', '-e', '-C', '-d', 'postgres', "$dump.app" ], 'pg_restore -C');
is(verify([ $other, 'app' ], $active), $active_key, 'the key is accepted');
is(ask([ $other, 'app' ], 'SHOW overten_auth.firebase_project_id'), 'my-project', 'the project is restored');
is(missing_project([ $other, 'app' ]), '', 'and not missing');
ask($other, 'CREATE DATABASE without TEMPLATE template0');
$other->command_ok([ 'pg_restore', '-e', '-d', 'without', "$dump.app" ], 'pg_restore without -C');
is(missing_project([ $other, 'without' ]), 'warning', 'without -C it is missing, which overten_check() says');
foreach my $options ([ '--roles-only' ], [])
{
	my ($all) = run_command([ 'pg_dumpall', '-d', $node->connstr('postgres'), @$options ]);
	my $name = "pg_dumpall @$options";

	like($all, qr/CREATE ROLE app;/, "$name has the roles");
	is($all =~ /ALTER DATABASE app SET "?overten_auth\.firebase_project_id/ ? 1 : 0,
		@$options ? 0 : 1, "$name: " . (@$options ? 'not the project' : 'the project, too'));
}


# What a dump of a part of the database holds

my @dump_app = ('pg_dump', '-Fp', '-d', $node->connstr('app'));
my ($part, $errors) = run_command([ @dump_app, '-n', 'overten_auth' ]);
unlike($part, qr/\Q$active_key\E/, 'pg_dump -n overten_auth has no keys');
is($errors, '', 'and says nothing');
$node->command_ok([ @dump_app, '-f', "$dump.extension", '-e', 'overten_auth', '-e', 'pgcrypto' ],
	'pg_dump -e overten_auth -e pgcrypto');
ask($other, 'CREATE DATABASE extension TEMPLATE template0');
$other->command_ok(
	[ 'psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', '-f', "$dump.extension", '-o', '/dev/null', 'extension' ],
	'restored');
is(verify([ $other, 'extension' ], $active), $active_key, 'has the keys');


# Who can dump

ask($node, 'CREATE ROLE dba LOGIN; ALTER DATABASE app OWNER TO dba');
$node->command_fails_like([ 'pg_dump', '-U', 'dba', '-f', "$dump.dba", 'app' ],
	qr/permission denied for (schema overten_auth|table \w+)/, 'the owner of the database cannot dump it');
ask($node, 'GRANT pg_read_all_data TO dba');
$node->command_ok([ 'pg_dump', '-U', 'dba', '-f', "$dump.dba", 'app' ], 'with pg_read_all_data it can');
like(slurp_file("$dump.dba"), qr/\Q$active_key\E/, 'and has the keys');


# Why the tables must not be altered

ask([ $node, 'app' ], 'ALTER TABLE overten_auth.orgs ADD COLUMN billing_id text');
is(ask([ $node, 'app' ], q{SELECT severity FROM overten_check() WHERE subject = 'column billing_id of overten_auth.orgs'}),
	'warning', 'overten_check() warns of an added column');
$node->command_ok([ 'pg_dump', '-f', "$dump.altered", 'app' ], 'pg_dump does not');
ask($other, 'CREATE DATABASE altered TEMPLATE template0');
($result, $stdout, $stderr) = $other->psql('altered', slurp_file("$dump.altered"), on_error_stop => 0);
like($stderr, qr/ERROR:  column "billing_id" of relation "orgs" does not exist/, 'but the dump cannot be restored');
is(ask([ $other, 'altered' ], 'SELECT count(*) FROM overten_auth.orgs'), 0, 'without it there are no orgs');

$other->stop;
$node->stop;
done_testing();
