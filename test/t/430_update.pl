
# ALTER EXTENSION UPDATE: what it must keep, and what it must close.  There is no
# older version yet, so this updates to a version of its own, whose scripts it
# writes into the scratch installation: the current script with some additions,
# and an update script with the same additions.  pg_regress cannot write there.

use strict;
use warnings FATAL => 'all';

use FindBin;
use IPC::Run;
use lib $FindBin::RealBin;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WholeSurface;

my $version = slurp_file("$FindBin::RealBin/../../overten_auth.control") =~ /^default_version = '(.*)'$/m
  ? $1 : die 'no version';
my ($sharedir) = run_command([ 'pg_config', '--sharedir' ]);
my $scripts = "$sharedir/extension/overten_auth--";
my $install = slurp_file("$scripts$version.sql");
my @written;
END { unlink @written }

sub write_script
{
	my ($name, $content) = @_;

	append_to_file("$scripts$name.sql", $content);
	push @written, "$scripts$name.sql";
	return;
}

# The first and the last statement of an update script, as the install script
# documents them.
my ($first) = $install =~ /^ \*\t(SELECT set_config\('overten_update\.before'.*;)$/m or die 'no first statement';
my ($last) = $install =~ /^ \*\t(SELECT overten_auth\.finish_script\(.*;)$/m or die 'no last statement';

# An object of each kind that can have privileges, parts of new and old tables,
# and some that are dropped.
my $changes = <<'EOQ';
CREATE SCHEMA overten_test;
REVOKE ALL ON SCHEMA overten_test FROM PUBLIC;
CREATE TABLE overten_auth.notes (
	note_id serial CONSTRAINT notes_pkey PRIMARY KEY,
	org_id text COLLATE "C" CONSTRAINT notes_org_id_fkey REFERENCES overten_auth.orgs,
	note text DEFAULT 'none'
);
CREATE INDEX notes_org_id_idx ON overten_auth.notes (org_id);
REVOKE ALL ON overten_auth.notes FROM PUBLIC;
REVOKE ALL ON SEQUENCE overten_auth.notes_note_id_seq FROM PUBLIC;
REVOKE ALL ON TYPE overten_auth.notes FROM PUBLIC;
SELECT pg_extension_config_dump('overten_auth.notes', '');
SELECT pg_extension_config_dump('overten_auth.notes_note_id_seq', '');
ALTER TABLE overten_auth.orgs ADD COLUMN note text;
COMMENT ON COLUMN overten_auth.orgs.note IS 'a note';
CREATE VIEW @extschema@.overten_notes AS SELECT * FROM overten_auth.notes;
REVOKE ALL ON @extschema@.overten_notes FROM PUBLIC;
REVOKE ALL ON TYPE @extschema@.overten_notes FROM PUBLIC;
CREATE TYPE overten_test.pair AS (a int, b int);
REVOKE ALL ON TYPE overten_test.pair FROM PUBLIC;
CREATE DOMAIN overten_test.short AS text CHECK (length(VALUE) < 9);
REVOKE ALL ON DOMAIN overten_test.short FROM PUBLIC;
CREATE FUNCTION @extschema@.overten_note(org_id text) RETURNS text
	LANGUAGE sql SET search_path = pg_catalog, pg_temp AS
	'SELECT note FROM overten_auth.orgs o WHERE o.org_id = $1';
REVOKE ALL ON FUNCTION @extschema@.overten_note FROM PUBLIC;
DROP INDEX overten_auth.audit_log_org_id_idx;
ALTER TABLE overten_auth.api_keys ALTER revoked_reason SET DEFAULT 'unknown';
DROP FUNCTION @extschema@.overten_key_checksum_ok(text);
EOQ
my $head = "SET LOCAL search_path TO pg_catalog, pg_temp;\n";
write_script("$version--test", "$head$first\n$changes$last\n");
write_script('test', $install =~ s/^(?=SELECT overten_auth\.require_safe_owners\(\);$)/$changes/mr);
write_script('test--test2', "$head$first\nCREATE FUNCTION overten_auth.second() RETURNS int LANGUAGE sql AS 'SELECT 2';\n$last\n");
write_script("$version--broken", "$head$first\n$changes\nSELECT 1 / 0;\n$last\n");

my $node = create_node('upgrade', surface_settings('postgres'));
ask($node, 'CREATE ROLE app LOGIN; CREATE ROLE "any ""one"""; CREATE ROLE reader');
my $update = q{ALTER EXTENSION overten_auth UPDATE TO 'test'};

# Everything that the creator of an object can grant by default.
my $hostile = join ';', map { qq{ALTER DEFAULT PRIVILEGES GRANT ALL ON $_ TO "any ""one""" WITH GRANT OPTION} }
  qw(FUNCTIONS TABLES SEQUENCES TYPES SCHEMAS);
$hostile .= ';ALTER DEFAULT PRIVILEGES IN SCHEMA overten_auth GRANT SELECT ON TABLES TO reader';
$hostile .= ';ALTER DEFAULT PRIVILEGES REVOKE ALL ON TYPES FROM CURRENT_USER';

# Who besides the owner has what, straight from the catalogs, one a line.
my $grants = <<'EOQ';
WITH member AS (
	SELECT classid, objid FROM pg_depend WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
	AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'overten_auth'))
SELECT concat_ws(' ', object, grantee::regrole, privilege_type) FROM (
	SELECT pg_describe_object(classid, objid, 0), proowner, coalesce(proacl, acldefault('f', proowner))
	FROM member JOIN pg_proc p ON p.oid = objid AND classid = 'pg_proc'::regclass
	UNION ALL SELECT pg_describe_object(classid, objid, 0), relowner,
		coalesce(relacl, acldefault(CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", relowner))
	FROM member JOIN pg_class c ON c.oid = objid AND classid = 'pg_class'::regclass
	UNION ALL SELECT pg_describe_object(classid, objid, attnum), relowner, attacl
	FROM member JOIN pg_class c ON c.oid = objid AND classid = 'pg_class'::regclass JOIN pg_attribute ON attrelid = c.oid
	UNION ALL SELECT 'type ' || t.oid::regtype, typowner, coalesce(typacl, acldefault('T', typowner))
	FROM member JOIN pg_type t ON typcategory <> 'A' AND (t.oid = objid AND classid = 'pg_type'::regclass
		OR typrelid = objid AND classid = 'pg_class'::regclass)
	UNION ALL SELECT pg_describe_object(classid, objid, 0), nspowner, coalesce(nspacl, acldefault('n', nspowner))
	FROM member JOIN pg_namespace n ON n.oid = objid AND classid = 'pg_namespace'::regclass
	) o (object, owner, acl), aclexplode(acl) WHERE grantee <> owner GROUP BY 1 ORDER BY 1
EOQ

# The objects with their definitions, privileges, comments and initial
# privileges, and what is dumped of them.
my $objects = <<'EOQ';
WITH member AS (
	SELECT classid, objid FROM pg_depend
	WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
	AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'overten_auth'))
SELECT pg_describe_object(classid, objid, 0), obj_description(objid, classid::regclass::name),
	(SELECT pg_get_functiondef(objid) || coalesce(proacl::text, '') FROM pg_proc WHERE oid = objid AND classid = 'pg_proc'::regclass),
	(SELECT concat_ws(' ', relacl, reloptions, (SELECT typacl FROM pg_type t WHERE t.oid = reltype))
	 FROM pg_class WHERE oid = objid AND classid = 'pg_class'::regclass),
	(SELECT typacl FROM pg_type WHERE oid = objid AND classid = 'pg_type'::regclass),
	(SELECT nspacl FROM pg_namespace WHERE oid = objid AND classid = 'pg_namespace'::regclass),
	(SELECT string_agg(concat_ws(' ', attname, format_type(atttypid, atttypmod), attcollation, attnotnull, attacl,
		pg_get_expr(adbin, adrelid), col_description(attrelid, attnum)), ', ' ORDER BY attnum)
	 FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
	 WHERE attrelid = objid AND classid = 'pg_class'::regclass AND attnum > 0),
	(SELECT string_agg(conname || pg_get_constraintdef(oid), ', ' ORDER BY conname) FROM pg_constraint
	 WHERE conrelid = objid AND classid = 'pg_class'::regclass),
	(SELECT string_agg(pg_get_indexdef(indexrelid) || coalesce(obj_description(indexrelid), ''), ', ' ORDER BY indexrelid::regclass::text)
	 FROM pg_index WHERE indrelid = objid AND classid = 'pg_class'::regclass),
	(SELECT string_agg(concat(pg_get_triggerdef(oid), tgenabled), ', ' ORDER BY tgname) FROM pg_trigger
	 WHERE tgrelid = objid AND classid = 'pg_class'::regclass AND NOT tgisinternal),
	(SELECT privtype::text || initprivs::text FROM pg_init_privs i WHERE i.objoid = objid AND i.classoid = classid)
FROM member ORDER BY 1;
SELECT 'initial privileges of a row type', i.objoid::regtype FROM pg_init_privs i JOIN pg_type t ON t.oid = i.objoid
WHERE i.classoid = 'pg_type'::regclass AND t.typrelid <> 0 AND NOT EXISTS (
	SELECT FROM pg_depend WHERE classid = i.classoid AND objid = i.objoid AND deptype = 'e') AND i.objoid > 16384;
SELECT c.oid::regclass, w FROM pg_extension, unnest(extconfig, extcondition) AS t (c, w), LATERAL (SELECT t.c::regclass AS oid) c
WHERE extname = 'overten_auth' ORDER BY 1::text;
EOQ


# An installation in use, with grants and additions of an administrator

my $org = create_org($node, 'Acme Docs');
my ($secret, $key) = mint($node, $org);
my ($revoked, $revoked_key) = mint($node, $org);
ask($node, <<"EOQ");
SELECT overten_revoke_key('$org', '$revoked_key');
SELECT overten_refresh_signing_keys();
GRANT EXECUTE ON FUNCTION overten_verify_key(text), overten_revoke_key(text, text, text) TO app;
GRANT USAGE ON SCHEMA overten_auth TO app;
GRANT SELECT ON overten_auth.audit_log TO app WITH GRANT OPTION;
GRANT SELECT (key_id) ON overten_auth.api_keys TO "any ""one""";
CREATE INDEX administrators_idx ON overten_auth.orgs (name);
ALTER TABLE overten_auth.tiers ENABLE ROW LEVEL SECURITY;
$hostile
EOQ
my $token = surface_token('ada');
my $granted = ask($node, $grants);
is(scalar(split /\n/, $granted), 5, 'an administrator has granted privileges');
my $checked = ask($node, 'SELECT subject, problem FROM overten_check() ORDER BY 1');
like($checked, qr/^index administrators_idx on overten_auth\.orgs\|/m, 'and created an index');

my $session = $node->background_psql('postgres');
ask($session, 'PREPARE verify AS SELECT count(key_id) FROM overten_verify_key($1)');
is(ask($session, "EXECUTE verify('$secret')"), 1, 'a session verifies, and caches a key');
is(ask($session, "EXECUTE verify('$revoked')"), 0, 'and refuses one');


# An update that fails changes nothing

is(sqlstate_of($node, q{ALTER EXTENSION overten_auth UPDATE TO 'broken'}), '22012', 'an update fails in the middle');
is(ask($node, q{SELECT extversion FROM pg_extension WHERE extname = 'overten_auth'}), $version, 'the version stays');
is(ask($node, $grants), $granted, 'so do the privileges');
is(ask($session, "EXECUTE verify('$secret')"), 1, 'and the session goes on');


# One that succeeds, while keys are verified

my $load = $node->basedir . '/load.sql';
append_to_file($load, <<'EOQ');
SELECT 1 / (count(key_id) = 1)::int FROM overten_verify_key(:secret);
SELECT 1 / (count(key_id) = 0)::int FROM overten_verify_key(:revoked);
EOQ
my ($out, $err) = ('', '');
my $running;
{
	local %ENV = $node->_get_env();
	$running = IPC::Run::start(
		[
			'pgbench', '-n', '-c', 2, '-T', 3, '-P', 1, '-M', 'prepared', '-D', "secret=$secret",
			'-D', "revoked=$revoked", '-f', $load, 'postgres'
		],
		'>', \$out, '2>', \$err);
}
wait_until('the load runs', sub { $running->pump_nb; $err =~ /^progress: /m });
my ($result, undef, $warning) = $node->psql('postgres', $update);
is($result, 0, 'the extension is updated under load');
ok($running->finish, 'all sessions verify on') or diag($err);
unlike($err, qr/ERROR|abort/, 'without an error');

is(ask($node, q{SELECT extversion FROM pg_extension WHERE extname = 'overten_auth'}), 'test', 'it has the new version');
like($warning, qr/WARNING:  revoked default privileges on new objects/, 'a warning tells of default privileges');
foreach my $what (
	'"any ""one""" got EXECUTE on public\.overten_note\(text\)',
	'"any ""one""" got CREATE, USAGE on overten_test',
	'"any ""one""" got .*UPDATE.* on overten_auth\.notes_note_id_seq',
	'"any ""one""" got USAGE on overten_test\.pair, overten_test\.short',
	'"any ""one""" got .*INSERT.* on overten_auth\.notes, public\.overten_notes',
	'reader got SELECT on overten_auth\.notes')
{
	like($warning, qr/DETAIL:  .*$what/, "it names $what");
}
is(ask($node, $grants), $granted, 'new objects are nobody else\'s, and what was granted before stays');
is(sqlstate_of($node, "SET ROLE \"any \"\"one\"\"\"; SELECT overten_note('$org')"), '42501', 'a new function is closed');
is(ask($node, 'SELECT subject, problem FROM overten_check() ORDER BY 1'), $checked,
	'new parts are the extension\'s, those of the administrator are not');

is(ask($_, "SELECT count(key_id) FROM overten_verify_key('$secret')"), 1, 'the key is verified') foreach $node, $session;
is(ask($session, "EXECUTE verify('$secret')"), 1, 'by the prepared statement, too');
is(ask($session, "SELECT uid FROM overten_verify_firebase_jwt('$token')"), 'ada', 'a token is verified');
flush_usage($node);
my ($uses) = split /\|/, uses($node, $key);
cmp_ok($uses, '>', 5, 'uses from before and after it are counted');
is(ask($session, "SELECT overten_revoke_key('$org', '$key')"), 't', 'a key is revoked');
is(ask($session, "EXECUTE verify('$secret')"), 0, 'and refused in that session');
is(ask($node, "SELECT count(key_id) FROM overten_verify_key('$secret')"), 0, 'and in another');
$session->quit;

ask($node, q{ALTER EXTENSION overten_auth UPDATE TO 'test2'});
is(ask($node, $grants), $granted, 'the next update opens nothing either');


# The objects are those of a new installation, whatever default privileges say.

foreach my $database ('updated', 'fresh', 'friendly')
{
	ask($node, "CREATE DATABASE $database");
	ask([ $node, $database ], 'CREATE EXTENSION pgcrypto');
}
ask([ $node, 'updated' ], "CREATE EXTENSION overten_auth VERSION '$version'; $hostile; $update");
(my $before = $hostile) =~ s/;[^;]* IN SCHEMA [^;]*//;
ask([ $node, 'fresh' ], "$before; CREATE EXTENSION overten_auth VERSION 'test'");
ask([ $node, 'friendly' ], q{CREATE EXTENSION overten_auth VERSION 'test'});
my $friendly = ask([ $node, 'friendly' ], $objects);

# Lines about objects that differ from those of the friendly database.
sub differences
{
	my ($database) = @_;
	my %lines;

	$lines{$_}++ foreach split /\n/, ask([ $node, $database ], $objects);
	$lines{$_}-- foreach split /\n/, $friendly;
	return join "\n", map { ($lines{$_} > 0 ? '+' : '-') . $_ } grep { $lines{$_} } sort keys %lines;
}

is(differences('fresh'), '', 'default privileges make no difference to a new installation');
is(differences('updated'), '', 'nor to an update, which makes the same objects');
is(ask([ $node, $_ ], $grants), '', "$_: they are their owner's alone") foreach 'updated', 'fresh', 'friendly';
like($friendly, qr/column note of overten_auth\.orgs.*trigger .{0,4}0_invalidate_caches/s, 'they include what is defined on the tables');

$node->stop;
done_testing();
