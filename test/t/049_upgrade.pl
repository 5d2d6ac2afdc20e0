# ALTER EXTENSION UPDATE from 1.0, with data: what worked before works after it,
# and in between, when the library is new and the SQL objects are old.  Not in
# pg_regress, which installs the current version, and for what a session that
# goes on during the update sees.

use strict;
use warnings FATAL => 'all';

use FindBin;
use MIME::Base64 qw(encode_base64);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use lib $FindBin::RealBin;
use FirebaseTokens;
use OvertenTest;

my $node = PostgreSQL::Test::Cluster->new('upgrade');
$node->init;
$node->append_conf('postgresql.conf', <<"EOC");
autovacuum = off
log_statement = none
shared_preload_libraries = 'overten_auth'
overten_auth.databases = 'postgres'
overten_auth.signing_keys_command = ''
overten_auth.firebase_project_id = '${\PROJECT}'
EOC
$node->start;
ask($node, 'CREATE EXTENSION pgcrypto');
ask($node, q{CREATE EXTENSION overten_auth VERSION '1.0'});

# What 1.0 has left: among it a webhook secret that is not sealed.
my $org = 'org_00000000000000000000';
my $signer = new_rsa();
my $token = token($signer, header(), claims());
ask($node, <<"EOQ");
INSERT INTO overten_auth.orgs (org_id, name, tier, api_access_since, webhook_secret_sealed)
VALUES ('$org', 'Acme Docs', 'free', now(), '\\x00'::bytea || 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw');
INSERT INTO overten_auth.signing_keys (kid, public_key)
VALUES ('${\header()->{kid}}', decode('${\encode_base64($signer->export_key_der('public'), '')}', 'base64'));
EOQ
my ($secret, $key) = mint($node, $org);
my ($old_secret, $old_key) = mint($node, $org);


# The new library with the old objects

my $session = $node->background_psql('postgres');
my $verified = "$key|$org|Acme Docs|free|whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
my $what = 'key_id, org_id, org_name, tier, webhook_secret';
is(ask($_, "SELECT $what FROM overten_verify_key('$secret')"), $verified, 'before the update a key is verified')
  foreach $node, $session, $session;
is(ask($session, "SELECT overten_revoke_key('$org', '$old_key')"), 't', 'one is revoked');
is(verify($session, $old_secret), '', 'and refused');
is(ask($session, "SELECT uid FROM overten_verify_firebase_jwt('$token')"), claims()->{sub}, 'a token is verified');
is(ask($node, "SELECT count(*) FROM overten_list_keys('$org')"), 2, 'the keys are listed');
foreach my $sql ("SELECT overten_create_org('Later')", "SELECT overten_load_signing_keys('" . jwk_set(jwk(new_rsa(), 'key-2')) . "')")
{
	my ($result, undef, $stderr) = $node->psql('postgres', $sql);

	isnt($result, 0, 'what needs the new objects fails');
	like($stderr, qr/HINT:  Run ALTER EXTENSION overten_auth UPDATE\./, 'and says what to do');
}


# The update

my $file = $node->data_dir . '/overten_auth.key';
append_to_file($file, "not a key\n");
chmod 0600, $file;
is(sqlstate_of($node, 'ALTER EXTENSION overten_auth UPDATE'), '55000', 'with a master key file that is not good it is not updated');
is(ask($node, q{SELECT extversion FROM pg_extension WHERE extname = 'overten_auth'}), '1.0', 'but stays as it is');
is(verify($session, $secret), $key, 'and verifies');
unlink $file or die $!;

ask($node, 'ALTER EXTENSION overten_auth UPDATE');
is(ask($node, q{SELECT extversion FROM pg_extension WHERE extname = 'overten_auth'}), '1.1', 'without one it is, and makes one');
is(ask($_, "SELECT $what FROM overten_verify_key('$secret')"), $verified, 'after it the key is verified')
  foreach $node, $session, $session;
is(verify($_, $old_secret), '', 'the revoked one is refused') foreach $node, $session;
is(ask($session, "SELECT uid FROM overten_verify_firebase_jwt('$token')"), claims()->{sub}, 'the token is verified');
is(ask($node, 'SELECT DISTINCT get_byte(webhook_secret_sealed, 0) FROM overten_auth.orgs'), 1, 'all webhook secrets are sealed');
like(ask($node, "SELECT overten_sign_webhook('$org', 'msg_1', 1, 'text')"), qr/^v1,/, 'they sign');
flush_usage($node);
cmp_ok(uses($node, $key), '>', 0, 'uses are counted');
is(ask($session, "SELECT overten_revoke_key('$org', '$key')"), 't', 'keys are revoked');
is(verify($_, $secret), '', 'and refused') foreach $node, $session;


# The objects are those of a new installation: their definitions, privileges,
# comments, and what is dumped of them.

my $objects = <<'EOQ';
WITH member AS (
	SELECT classid, objid FROM pg_depend
	WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
	AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'overten_auth'))
SELECT pg_describe_object(classid, objid, 0), obj_description(objid, classid::regclass::name),
	(SELECT pg_get_functiondef(objid) || coalesce(proacl::text, '') FROM pg_proc WHERE oid = objid AND classid = 'pg_proc'::regclass),
	(SELECT relacl::text || coalesce(reloptions::text, '') FROM pg_class WHERE oid = objid AND classid = 'pg_class'::regclass),
	(SELECT string_agg(concat_ws(' ', attname, format_type(atttypid, atttypmod), attcollation, attnotnull, attacl,
		pg_get_expr(adbin, adrelid), col_description(attrelid, attnum)), ', ' ORDER BY attnum)
	 FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
	 WHERE attrelid = objid AND classid = 'pg_class'::regclass AND attnum > 0),
	(SELECT string_agg(conname || pg_get_constraintdef(oid), ', ' ORDER BY conname) FROM pg_constraint
	 WHERE conrelid = objid AND classid = 'pg_class'::regclass),
	(SELECT string_agg(pg_get_indexdef(indexrelid) || coalesce(obj_description(indexrelid), ''), ', ' ORDER BY indexrelid::regclass::text)
	 FROM pg_index WHERE indrelid = objid AND classid = 'pg_class'::regclass),
	(SELECT privtype::text || initprivs::text FROM pg_init_privs i WHERE i.objoid = objid AND i.classoid = classid)
FROM member ORDER BY 1;
SELECT c.oid::regclass, w FROM pg_extension, unnest(extconfig, extcondition) AS t (c, w), LATERAL (SELECT t.c::regclass AS oid) c
WHERE extname = 'overten_auth' ORDER BY 1::text;
EOQ
ask($node, 'CREATE DATABASE fresh');
ask([ $node, 'fresh' ], 'CREATE EXTENSION pgcrypto; CREATE EXTENSION overten_auth');
is(ask([ $node, 'fresh' ], q{SELECT extversion FROM pg_extension WHERE extname = 'overten_auth'}), '1.1', 'a new installation is of the new version');
is(ask($node, $objects), ask([ $node, 'fresh' ], $objects), 'and has the same objects');

$session->quit;
$node->stop;
done_testing();
