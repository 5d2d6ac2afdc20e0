
# The master key file: made once, whoever comes first, and never replaced; what
# is wrong with it never keeps a key from being verified; and what it protects
# is in no log, dump, WAL or file of the cluster.  pg_regress has one server
# and cannot touch the file.

use strict;
use warnings FATAL => 'all';

use File::Find;
use File::stat;
use FindBin;
use lib $FindBin::RealBin;
use MIME::Base64;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes 'usleep';

my $is_sealed = 'SELECT bool_and(get_byte(webhook_secret_sealed, 0) = 1)
	FROM overten_auth.orgs';

# Start a node whose key file is outside of the data directory.
sub create_node_with_key
{
	my ($name, %init) = @_;
	my $file = PostgreSQL::Test::Utils::tempdir . "/$name.key";

	return (
		create_node($name, "overten_auth.master_key_file = '$file'", %init),
		$file);
}

sub write_file
{
	my ($file, $content, $mode) = @_;

	unlink $file;
	append_to_file($file, $content);
	chmod $mode // 0600, $file or die "chmod: $!";
	return;
}

sub random_key
{
	open my $source, '<:raw', '/dev/urandom' or die "urandom: $!";
	read $source, my $key, 32;
	close $source;
	return encode_base64($key, '') . "\n";
}

sub set_key_file
{
	my ($node, $file) = @_;

	$node->append_conf('postgresql.conf',
		"overten_auth.master_key_file = '$file'");
	$node->reload;
	$node->poll_query_until('postgres',
		'SHOW overten_auth.master_key_file', $file)
	  or die 'the setting was not reloaded';
	return;
}

sub webhook_secret
{
	my ($where, $secret) = @_;

	return ask($where,
		"SELECT key_id IS NOT NULL, webhook_secret FROM overten_verify_key('$secret')"
	);
}

# Create an org that cannot be sealed; returns what the client is told.
sub failure
{
	my ($node, $database) = @_;
	my ($result, $stdout, $stderr) = $node->psql($database // 'postgres',
		"\\set VERBOSITY verbose\nSELECT overten_create_org('Refused')");

	return $stderr;
}

sub master_key_ids
{
	my $where = shift;

	return ask($where, 'SELECT * FROM overten_auth.master_key_ids()');
}

# Two databases of a fresh cluster at once

my ($node, $file) = create_node_with_key('racing');
ask($node, 'CREATE DATABASE second');
ask([ $node, 'second' ], 'CREATE EXTENSION overten_auth CASCADE');
is(master_key_ids($node), '{}|{}', 'at first no master key is needed or there');
ok(!-e $file, 'and no file');
is( sqlstate_of(
		$node, "BEGIN READ ONLY; SELECT overten_create_org('Read only')"),
	'25006',
	'a read-only transaction seals nothing');
ok(!-e $file, 'and makes no file');

my $sessions = 12;
my @sessions;
foreach my $i (1 .. $sessions)
{
	push @sessions, $node->background_psql($i % 2 ? 'postgres' : 'second');
}
my %holder;
foreach my $database ('postgres', 'second')
{
	$holder{$database} = $node->background_psql($database);
	ask($holder{$database}, 'SELECT pg_advisory_lock(1)');
}
$_->query_until(
	qr/started/,
	"\\echo started
	 SELECT pg_advisory_lock_shared(1);
	 SELECT count(o.org_id) FROM generate_series(1, 20) i,
		overten_create_org('Racing ' || i) o;\n"
) foreach @sessions;
$node->poll_query_until('postgres',
	"SELECT count(*) = $sessions FROM pg_locks
	 WHERE locktype = 'advisory' AND NOT granted")
  or die 'the sessions do not wait';
$_->query_safe('SELECT pg_advisory_unlock(1)') foreach values %holder;
$_->quit foreach values %holder;
$_->quit foreach @sessions;

is( ask([ $node, $_ ], 'SELECT count(*) FROM overten_auth.orgs'),
	20 * $sessions / 2, "$_: all orgs are there")
  foreach ('postgres', 'second');
is(ask([ $node, $_ ], $is_sealed), 't', "$_: all sealed")
  foreach ('postgres', 'second');
my $content = slurp_file($file);
is(scalar(() = $content =~ /^[^#]/mg), 1, 'with one key');
is(stat($file)->mode & 07777, 0600, 'in a file of mode 0600');
is(stat($file)->nlink, 1, 'of one name');
is(join(' ', glob("$file.*")), '', 'and nothing is left beside it');

# What crashes have left beside it, each with a key in it
my $mark = $node->data_dir . '/overten_auth.sealed';
my @left = ("$file.0123abcd.tmp", "$file.9999ffff.tmp", "$mark.0123abcd.tmp");
my @others = map { "$file.$_" }
  ('aaaaaaaa.tmp', '0123ABCD.tmp', '0123abcd.tmp.old', '0123abcd0.tmp', 'tmp');
write_file($_, random_key()) foreach @left, @others;
mkdir "$file.00000000.tmp" or die "mkdir: $!";
symlink $file, "$file.11111111.tmp" or die "symlink: $!";
my $two_hours_ago = time - 7200;
utime $two_hours_ago, $two_hours_ago, $_ or die "utime: $!"
  foreach @left, @others[1 .. $#others], "$file.00000000.tmp";
ask($node, "BEGIN; SELECT overten_create_org('Tidy'); ROLLBACK");
is(join(' ', grep { -e } @left), '', 'a sealing removes what crashes have left beside the file');
is(join(' ', grep { !-e } @others, "$file.00000000.tmp", "$file.11111111.tmp"),
	'', 'and nothing that is young, or has another name or type');
unlink @others, "$file.11111111.tmp";
rmdir "$file.00000000.tmp";
is(master_key_ids($node), master_key_ids([ $node, 'second' ]),
	'both databases need the same key');
foreach my $database ('postgres', 'second')
{
	is( ask([ $node, $database ], <<'EOQ'), 20 * $sessions / 2,
SELECT count(DISTINCT v.webhook_secret)
FROM overten_auth.orgs o, overten_mint_key(o.org_id) m, overten_verify_key(m.secret) v;
EOQ
		"$database: all open");
}

# What can be wrong with the file

my $org = create_org($node, 'Robust');
my ($secret, $key) = mint($node, $org);
my $webhook_secret = webhook_secret($node, $secret);
like($webhook_secret, qr/^t\|whsec_/, 'a webhook secret opens');
my ($good) = $content =~ /^([^#].*\n)/m;
my $id = master_key_ids($node) =~ s/^\{(\w+)\}\|\{\1\}$/$1/r;
like($id, qr/^[0-9a-f]{16}$/, 'the key has an id');

my $log_start = -s $node->logfile;
sub check_bad
{
	my ($name, $detail) = @_;

	like(
		failure($node),
		qr/ERROR:  55000: there is no master key .*\nDETAIL:  $detail.*\nHINT:  /,
		"$name: nothing is sealed, and why");
	is(sqlstate_of($node, "SELECT overten_revoke_leaked('$secret', rotate_webhook_secret => true)"),
		'55000', "$name: nor is a webhook secret replaced with a key");
	my ($result, $stdout, $stderr) = $node->psql('postgres', <<"EOQ");
SELECT key_id, webhook_secret FROM overten_verify_key('$secret');
SELECT key_id, webhook_secret FROM overten_verify_key('$secret');
EOQ
	is($stdout, "$key|\n$key|", "$name: the key is accepted");
	is(scalar(() = $stderr =~ /WARNING:  webhook secrets cannot be unsealed/g),
		1, "$name: with one warning");
	like($stderr, qr/DETAIL:  Master key $id is missing\. $detail/,
		"$name: that says why");
	is(master_key_ids($node), "{$id}|{}", "$name: the key is not there");
	return;
}

my $backup = "$file.backup";
write_file($backup, $content);
my %bad = (
	empty => [ '', 'The master key file holds no key\.' ],
	'only a comment' => [ "# nothing\n\n", '.* holds no key\.' ],
	'a short line' => [ substr($good, 4), 'Line 1 .* 32 bytes in base64\.' ],
	'a long line' => [ "$good#\nAAAA$good", 'Line 3 .* 32 bytes in base64\.' ],
	'not base64' => [ "# c\n" . $good =~ s/^./*/r, 'Line 2 .* in base64\.' ],
	'31 bytes' => [ encode_base64('x' x 31), 'Line 1 .* in base64\.' ],
	'33 bytes' => [ encode_base64('x' x 33), 'Line 1 .* in base64\.' ],
	'a NUL' => [ $good =~ s/^./\0/r, 'Line 1 .* in base64\.' ],
	'a key twice' => [ "$good\n$good", 'Line 3 .* repeats a key\.' ],
	'33 keys' =>
	  [ join('', map { random_key() } 1 .. 33), 'Line 33 .* a key too many\.' ],
	'too large' => [ $good . '#' x 5000, 'The master key file is too large\.' ],
	'readable by the group' => [ $content, '.* group or world access', 0640 ],
	'readable by others' => [ $content, '.* group or world access', 0604 ]);
foreach my $name (sort keys %bad)
{
	my ($text, $detail, $mode) = @{ $bad{$name} };

	write_file($file, $text, $mode);
	check_bad($name, $detail);
}

# A file that is not what it seems is looked at once it is open.
unlink $file;
check_bad('missing', 'The master key file does not exist\.');
symlink "$file.nowhere", $file;
check_bad('a dangling link', 'The master key file does not exist\.');
ok(!-e "$file.nowhere", 'a dangling link: nothing is made at its end');
unlink $file;
mkdir $file;
check_bad('a directory', 'The master key file is not a regular file\.');
rmdir $file;
system_or_bail('mkfifo', $file);
check_bad('a pipe', 'The master key file is not a regular file\.');
unlink $file;
symlink '/dev/zero', $file;
check_bad('a device', 'The master key file is not a regular file\.');
unlink $file;
write_file("$file.open", $content, 0644);
symlink "$file.open", $file;
check_bad('a link to an open file', '.* group or world access');
unlink $file, "$file.open";
# Only root could give the test a file that somebody else owns.
my ($foreign) = grep { stat($_)->uid != $> && stat($_)->uid == 0 }
  ('/etc/passwd');
symlink $foreign, $file;
check_bad('a file that all can read', '.* group or world access');
unlink $file;
write_file($file, random_key());
my ($result, $stdout, $stderr) = $node->psql('postgres',
	"SELECT key_id, webhook_secret FROM overten_verify_key('$secret')");
is($stdout, "$key|", 'another key: the key is accepted');
like($stderr, qr/Master key $id is missing\. $/m, 'another key: a warning');
my $log = slurp_file($node->logfile, $log_start);
unlike($log, qr/\Q$file\E/, 'no message has the path of the file');
unlike($log, qr/sk_live_\w{5}|whsec_/, 'or a secret');

unlink $file;
symlink $backup, $file;
is(webhook_secret($node, $secret),
	$webhook_secret, 'a link to a good file is good');
unlink $file;
write_file($file, "\n \t\r\n# comment\n \t" . $good =~ s/\n/ \r\n/r, 0400);
is(webhook_secret($node, $secret),
	$webhook_secret, 'as are blanks, comments, and mode 0400');
write_file($file, $good =~ s/\n//r);
is(webhook_secret($node, $secret),
	$webhook_secret, 'or a last line without an end');

# A session that has read the file

my $session = $node->background_psql('postgres');
is(webhook_secret($session, $secret), $webhook_secret, 'a session opens');
unlink $file;
ask($node, "INSERT INTO overten_auth.tiers VALUES ('other')");
ask($node, "SELECT overten_set_tier('$org', 'other')");
is(webhook_secret($session, $secret),
	$webhook_secret, 'it goes on without the file');
my $loaded = 'SELECT pg_conf_load_time()';
my $loaded_before = ask($session, $loaded);
$node->reload;
usleep(10_000) while ask($session, $loaded) eq $loaded_before;
ask($node, "SELECT overten_set_tier('$org', 'free')");
is(webhook_secret($session, $secret),
	$webhook_secret, 'also after a reload of the configuration');
is( ask($session, <<'EOQ'), 'failed', 'but does not seal');
CREATE FUNCTION pg_temp.try() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM overten_create_org('Refused');
	RETURN 'sealed';
EXCEPTION WHEN object_not_in_prerequisite_state THEN
	RETURN 'failed';
END
$$;
SELECT pg_temp.try();
EOQ
my $late = $node->background_psql('postgres');
my $late_start = -s $node->logfile;
ask($late, 'SET client_min_messages = error');
is(webhook_secret($late, $secret), 't|', 'a new session does not open')
  foreach 1 .. 3;
write_file($file, $content);
is(webhook_secret($late, $secret),
	$webhook_secret, 'until the file is there, though it had the key cached');
is(ask($session, 'SELECT pg_temp.try()'), 'sealed', 'the first seals again');
is( scalar(
		() = slurp_file($node->logfile, $late_start) =~
		  /WARNING:  webhook secrets cannot be unsealed/g),
	1,
	'there was one warning');

my $memory = "SELECT count(*), sum(total_bytes) < 10000
	FROM pg_backend_memory_contexts WHERE name = 'overten_auth master keys'";
foreach my $round (1 .. 50)
{
	write_file($file, $round % 2 ? '' : $content . "# $round\n");
	ask($session, 'SELECT pg_temp.try()');
}
is(ask($session, $memory), '1|t', 'reading it often takes no memory');
is(webhook_secret($session, $secret), $webhook_secret, 'all still opens');
$late->quit;

# Rotation of the master key

ask($node, "SELECT overten_rotate_webhook_secret('$org')");
my $sign = "SELECT overten_sign_webhook('$org', 'msg_1', 1, 'body')";
my $signed = ask($node, $sign);
is(length $signed, 95, 'two secrets sign');
$webhook_secret = webhook_secret($node, $secret);
my $orgs = ask($node, 'SELECT count(*) FROM overten_auth.orgs');

my $new = random_key();
write_file($file, "$new$content");
my ($new_id) = master_key_ids($node) =~ /\|\{(\w+),$id\}$/
  or die 'there is no second key';
is(webhook_secret($node, $secret),
	$webhook_secret, 'with a new key put first, the old one opens');
ask($session, 'SELECT pg_temp.try()');
is(master_key_ids($node), '{' . join(',', sort $id, $new_id) . "}|{$new_id,$id}",
	'and the new one seals');

my $locker = $node->background_psql('postgres');
ask($locker, "BEGIN; SELECT overten_set_tier('$org', 'other')");
my $left = $orgs;
my $calls = 0;
while ((my $now = ask($node, 'SELECT overten_reseal(50)')) > 1)
{
	$left -= 50;
	is($now, $left, "$left are left to reseal");
	last if ++$calls > 100;
}
cmp_ok($calls, '>', 1, 'it took some calls');
is(ask($node, 'SELECT overten_reseal()'),
	1, 'the one that is locked stays to be done');
ask($locker, 'COMMIT');
$locker->quit;
($result, $stdout, $stderr) =
  $node->psql('postgres', 'SELECT overten_reseal()');
is($stdout, 0, 'then all are done');
like($stderr, qr/NOTICE:  orgs resealed: 1, still to do: 0$/m, 'and told');
is(master_key_ids($node),
	"{$new_id}|{$new_id,$id}", 'the old key is not needed any more');
write_file($file, $new);
is(webhook_secret($node, $secret), $webhook_secret, 'without it all opens');
is(ask($node, $sign), $signed, 'and the same two secrets sign');
is( ask(
		$node, "SELECT sum(detail::int) FROM overten_auth.audit_log
		 WHERE action = 'reseal'"),
	$orgs,
	'the audit log has each once');
like(failure($node, 'second'), qr/^$/, 'the other database seals with it');
($result, $stdout, $stderr) =
  $node->psql('second', 'SELECT overten_reseal()');
is($stdout, 0, 'and has nothing to do that could be done');
like($stderr, qr/WARNING:  orgs with a .* that does not open: 120$/m,
	'but is told of those whose key was taken away too early');
write_file($file, $new . $content);
is(ask([ $node, 'second' ], 'SELECT overten_reseal()'),
	0, 'they are done when it is back');
is(master_key_ids([ $node, 'second' ]),
	"{$new_id}|{$new_id,$id}", 'in the other database too');

# Two that reseal at once, with others that write, end without a deadlock.
write_file($file, random_key() . $new);
my @resealing = map { $node->background_psql('postgres') } 1 .. 3;
$resealing[$_]->query_until(
	qr/started/,
	$_ == 2
	? "\\echo started
	   SELECT count(overten_rotate_webhook_secret(org_id))
		FROM (SELECT org_id FROM overten_auth.orgs ORDER BY org_id DESC) o;\n"
	: "\\echo started
	   DO \$\$ BEGIN WHILE overten_reseal(7) > 0 LOOP COMMIT; END LOOP; END \$\$;\n"
) foreach 0 .. 2;
$_->quit foreach @resealing;
is(ask($node, 'SELECT overten_reseal()'), 0, 'all is done');
unlike(slurp_file($node->logfile, $log_start),
	qr/deadlock detected|PANIC|terminated by signal/, 'and nothing broke');
is( ask(
		$node, 'SELECT count(*) = count(overten_sign_webhook(org_id, $$m$$, 1, $$b$$))
		FROM overten_auth.orgs'),
	't',
	'every secret opens');
$session->quit;

# A mark in the data directory keeps a lost key from being replaced, even where
# the database itself has nothing sealed.
ask($node, 'CREATE DATABASE third');
ask([ $node, 'third' ], 'CREATE EXTENSION overten_auth CASCADE');
unlink $file;
like(failure($node, 'third'),
	qr/55000.*\nDETAIL:  The master key file does not exist\./,
	'a database without sealed values makes no second key');
ok(!-e $file, 'there is none');
write_file($file, random_key());
like(failure($node, 'third'), qr/^$/, 'one that is put there by hand is used');
set_key_file($node, '');
like(failure($node),
	qr/55000.*\nDETAIL:  overten_auth\.master_key_file is empty\./,
	'without a file nothing is sealed');
$node->stop;

# A standby that was made before anything was sealed

my ($primary, $primary_file) =
  create_node_with_key('primary', allows_streaming => 1);
ask($primary, 'CREATE DATABASE second');
ask([ $primary, 'second' ], 'CREATE EXTENSION overten_auth CASCADE');
$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
my $standby_file = PostgreSQL::Test::Utils::tempdir . '/standby.key';
$standby->append_conf('postgresql.conf',
	"overten_auth.master_key_file = '$standby_file'
	 overten_auth.verify_on_standby = on");
$standby->start;
is(sqlstate_of($standby, "SELECT overten_create_org('Standby')"),
	'25006', 'a standby seals nothing');
$org = create_org($primary, 'First');
($secret, $key) = mint($primary, $org);
$webhook_secret = webhook_secret($primary, $secret);
$primary->wait_for_catchup($standby);

sub check_without_key
{
	my ($name, $where, $key_file) = @_;

	($result, $stdout, $stderr) = $where->psql('postgres',
		"SELECT key_id, webhook_secret FROM overten_verify_key('$secret')");
	is($stdout, "$key|", "$name: keys are accepted");
	like($stderr, qr/WARNING:  webhook secrets cannot be unsealed/,
		"$name: it says that it cannot unseal");
	like($stderr, qr/DETAIL:  Master key \w{16} is missing\. The master key file does not exist\.\nHINT:  /,
		"$name: and what is missing");
	ok(!-e $key_file, "$name: it makes no key");
	return;
}

check_without_key('standby', $standby, $standby_file);
is(ask($standby, 'SELECT present FROM overten_auth.master_key_ids()'),
	'{}', 'standby: it knows that it has none');
$primary->stop;
$standby->promote;
check_without_key('promoted', $standby, $standby_file);
like(failure($standby), qr/55000.*\nDETAIL:  The master key file does not exist\./,
	'promoted: it does not seal');
ok(!-e $standby_file, 'promoted: it makes no second key');
write_file($standby_file, slurp_file($primary_file));
is(webhook_secret($standby, $secret),
	$webhook_secret, 'promoted: with the file copied, it opens');
like(failure($standby), qr/^$/, 'promoted: and seals');
$standby->stop;

# A cluster moved without the file: a base backup, or a dump

$primary->start;
$primary->backup('moved');
my $moved = PostgreSQL::Test::Cluster->new('moved');
$moved->init_from_backup($primary, 'moved');
my $moved_file = PostgreSQL::Test::Utils::tempdir . '/moved.key';
$moved->append_conf('postgresql.conf',
	"overten_auth.master_key_file = '$moved_file'");
$moved->start;
check_without_key('moved', $moved, $moved_file);
foreach my $database ('postgres', 'second')
{
	like(
		failure($moved, $database),
		qr/55000.*\nDETAIL:  The master key file does not exist\.\nHINT:  .*copy it from the server/,
		"moved: $database does not seal");
}
ok(!-e $moved_file, 'moved: no second key is made');
$moved->stop;

my $dump = $primary->basedir . '/dump.sql';
$primary->command_ok([ 'pg_dump', '-f', $dump, 'postgres' ], 'pg_dump');
my $fresh_file = PostgreSQL::Test::Utils::tempdir . '/fresh.key';
my $fresh = PostgreSQL::Test::Cluster->new('fresh');
$fresh->init;
$fresh->append_conf('postgresql.conf',
	"log_statement = none\noverten_auth.master_key_file = '$fresh_file'");
$fresh->start;
ask($fresh, 'CREATE DATABASE restored TEMPLATE template0');
$fresh->command_ok(
	[
		'psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', '-f', $dump,
		'-o', '/dev/null', 'restored'
	],
	'psql -f');
($result, $stdout, $stderr) = $fresh->psql('restored',
	"SELECT key_id, webhook_secret FROM overten_verify_key('$secret')");
is($stdout, "$key|", 'restored: keys are accepted');
like($stderr, qr/WARNING:  webhook secrets cannot/, 'restored: with a warning');
like(failure($fresh, 'restored'),
	qr/55000.*\nDETAIL:  The master key file does not exist\./,
	'restored: it does not seal');
ok(!-e $fresh_file, 'restored: no second key is made');
write_file($fresh_file, slurp_file($primary_file));
is(webhook_secret([ $fresh, 'restored' ], $secret),
	$webhook_secret, 'restored: with the file copied, it opens');
$fresh->stop;
$primary->stop;

# Where the file cannot be made

my ($stuck) = create_node_with_key('stuck');
set_key_file($stuck, 'no/such/folder/key');
like(failure($stuck),
	qr/55000.*\nDETAIL:  The master key file could not be made: No such file or directory\./,
	'a file that cannot be made is an error that says why');
set_key_file($stuck, 'own.key');
like(failure($stuck), qr/^$/, 'a relative path');
ok(-e $stuck->data_dir . '/own.key', 'is relative to the data directory');
my $set = q{SET overten_auth.master_key_file = 'other.key'};
is(sqlstate_of($stuck, "LOAD 'overten_auth'; $set"),
	'55P02', 'a session cannot set it');
($result, $stdout, $stderr) =
  $stuck->psql('postgres', "$set; SELECT name FROM overten_create_org('Set')");
is($stdout, 'Set', 'nor before the library is loaded');
ok(!-e $stuck->data_dir . '/other.key', 'which has no effect');
$stuck->stop;

# Nothing of it is anywhere else

my ($quiet, $quiet_file) = create_node_with_key('quiet');
$quiet->append_conf('postgresql.conf', <<'EOC');
log_min_messages = debug2
log_min_duration_statement = 0
wal_level = logical
EOC
$quiet->restart;
ask($quiet, <<'EOQ');
SET log_min_duration_statement = -1;
CREATE TEMP TABLE org AS SELECT (overten_create_org('Org ' || i)).* FROM generate_series(1, 20) i;
CREATE TEMP TABLE minted AS SELECT m.* FROM org, overten_mint_key(org_id) m;
EOQ
my $quiet_org = create_org($quiet, 'Quiet');
my ($quiet_secret) = mint($quiet, $quiet_org);
my @webhook_secrets = (webhook_secret($quiet, $quiet_secret) =~ s/^t\|//r);
push @webhook_secrets,
  ask($quiet, "SELECT overten_rotate_webhook_secret('$quiet_org')");
my $quiet_new = random_key();
my $quiet_key = slurp_file($quiet_file) =~ s/^#.*\n//mgr;
write_file($quiet_file, $quiet_new . $quiet_key);
is(ask($quiet, 'SELECT overten_reseal()'), 0, 'all is resealed');
ask($quiet, "SELECT overten_sign_webhook('$quiet_org', 'msg_1', 1, 'body')");
push @webhook_secrets,
  ask($quiet, "SELECT overten_rotate_webhook_secret('$quiet_org')");
ask($quiet, 'CHECKPOINT');
$quiet->command_ok(
	[ 'pg_dump', '-f', $quiet->basedir . '/dump.sql', 'postgres' ],
	'pg_dump');
$quiet->stop;

my %secret = map { $_ => "webhook secret" } @webhook_secrets;
$secret{ substr $_, 6 } = 'its base64' foreach @webhook_secrets;
$secret{ decode_base64(substr $_, 6) } = 'its bytes' foreach @webhook_secrets;
foreach my $line ($quiet_key, $quiet_new)
{
	chomp $line;
	$secret{$line} = 'master key';
	$secret{ decode_base64($line) } = 'its bytes';
	$secret{ unpack 'H*', decode_base64($line) } = 'its hex';
}
my $searched = 0;
my @found;
my $names = 0;
find(
	{
		no_chdir => 1,
		wanted => sub {
			return if !-f || -l;
			my $content = slurp_file($_);

			$searched++;
			$names++ if index($content, $quiet_org) >= 0;
			foreach my $secret (keys %secret)
			{
				push @found, "$_: $secret{$secret}"
				  if index($content, $secret) >= 0;
			}
		}
	},
	$quiet->basedir,
	$quiet->logfile);
cmp_ok($searched, '>', 900, 'log, dump, WAL and data directory are searched');
cmp_ok($names, '>=', 3, 'the id of an org is found in table, WAL and dump');
is(join("\n", @found), '', 'but no webhook secret and no master key');
cmp_ok(index(slurp_file($quiet_file), $quiet_new), '==', 0,
	'which the search would see in the file that has it');

done_testing();
