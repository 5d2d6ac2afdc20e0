
# The master key file: made once, whoever comes first, and never replaced; and
# what is wrong with it never keeps a key from being verified.  pg_regress cannot
# touch the file.

use strict;
use warnings FATAL => 'all';

use File::stat;
use FindBin;
use lib $FindBin::RealBin;
use MasterKeys;
use MIME::Base64;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes 'usleep';

my $is_sealed = 'SELECT bool_and(get_byte(webhook_secret_sealed, 0) = 1)
	FROM overten_auth.orgs';

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
# What to do depends on what is wrong.
sub hint_for
{
	my ($detail) = @_;

	return 'Copy the file' if $detail =~ /does not exist|holds no key/;
	return 'Make what .* 0600' if $detail =~ /access|regular/;
	return 'Correct the file';
}

sub check_bad
{
	my ($name, $detail) = @_;
	my $hint = hint_for($detail);

	like(
		failure($node),
		qr/ERROR:  55000: there is no master key .*\nDETAIL:  $detail.*\nHINT:  $hint/,
		"$name: nothing is sealed, why, and what to do");
	is(sqlstate_of($node, "SELECT overten_revoke_leaked('$secret', rotate_webhook_secret => true)"),
		'55000', "$name: nor is a webhook secret replaced with a key");
	my ($result, $stdout, $stderr) = $node->psql('postgres', <<"EOQ");
SELECT key_id, webhook_secret FROM overten_verify_key('$secret');
SELECT key_id, webhook_secret FROM overten_verify_key('$secret');
EOQ
	is($stdout, "$key|\n$key|", "$name: the key is accepted");
	is(scalar(() = $stderr =~ /WARNING:  webhook secrets cannot be unsealed/g),
		1, "$name: with one warning");
	like($stderr, qr/DETAIL:  Master key $id is missing\. $detail.*\nHINT:  $hint/,
		"$name: that says the same");
	is(ask($node, <<"EOQ"), "200|null\n200|null", "$name: requests are authorized, too");
SELECT a.status, body::json -> 'webhook_secret'
FROM (VALUES (json_build_object('authorization', 'Bearer $secret'))) v (headers),
	LATERAL (SELECT status, body FROM overten_authorize_request(NULL, headers)
		UNION ALL SELECT status, body FROM overten_handle_request('GET', '/api/v1/verify', headers, NULL)) a
EOQ
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
like($stderr, qr/Master key $id is missing\. \nHINT:  Add the key to the file/,
	'another key: a warning');
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

done_testing();
