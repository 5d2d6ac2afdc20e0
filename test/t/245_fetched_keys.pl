# Signing keys that a background worker fetches: by the real default command,
# from a real HTTPS server in all the ways in which it can go wrong.  Not in
# pg_regress, because there are workers and the server log.

use strict;
use warnings FATAL => 'all';

use Crypt::PK::ECC;
use FindBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

use lib $FindBin::RealBin;
use FetchTest;
use FirebaseTokens;
use OvertenTest;

my $node = create_fetch_node('fetch');
$asker = $node->background_psql('postgres');
$asker->set_query_timer_restart;
my $state = q{SELECT string_agg(kid || xmin || ctid::text || loaded_at, ',' ORDER BY kid) || (SELECT count(*) FROM overten_auth.audit_log) FROM overten_auth.signing_keys};

# By itself, once it is known that the database wants keys.
command(curl('/keys?max-age=21600'));
is(query("SELECT outcome('$token')"), '55000', 'no keys yet');
$node->reload;
ok($node->poll_query_until('postgres', 'SELECT signing_keys = 1 FROM overten_status()'), 'fetched without being asked');
is_good($token, 'a token is verified with the key');
ok($node->poll_query_until('postgres', q{SELECT key_worker = 'scheduled' FROM overten_status()}), 'the worker has ended');
is(status('fetch_outcome'), '1 key.', 'the outcome is told');
is(query('SELECT last_fetch_outcome, last_fetch_at = fetch_tried_at FROM overten_stat, overten_status()'), '1 key.|t', 'in the statistics, too');
is(status(q{fetched_at = fetch_tried_at AND fetched_at BETWEEN now() - interval '1 min' AND now()}), 't', 'and when that was');
is(query(<<'SQL'), 't', 'the key ends a day after the answer, at the full hour');
SELECT expires_at = date_trunc('hour', fetched_at + interval '30 h') AND certificate_expires_at = '2099-01-01'
FROM overten_auth.signing_keys, overten_status()
SQL
is(refresh(), 1, 'fetched when asked');

# What is the same writes nothing, unless an hour has passed.
my ($hour, $before, $after);
do
{
	refresh();
	$hour = (gmtime)[2];
	$before = query($state);
	is(refresh(), 1, 'fetched again');
	$after = query($state);
} while ($hour != (gmtime)[2]);
is($after, $before, 'an unchanged set writes nothing');
query(q{UPDATE overten_auth.signing_keys SET expires_at = now() + interval '3 h'});
$before = query('SELECT count(*) FROM overten_auth.audit_log');
is(refresh(), 1, 'fetched with another end');
is(query(q{SELECT expires_at > now() + interval '28 h' FROM overten_auth.signing_keys}), 't', 'moves the end');
is(query('SELECT count(*) FROM overten_auth.audit_log'), $before, 'which is nothing for the audit log');

# How long an answer is good for; the next fetch is at 70 to 80 % of it.
for (
	[ 'max-age=20000', 20000 ], [ '', 3600 ], [ 'max-age=20000&age=5000', 15000 ],
	[ 'max-age=0', 300 ], [ 'max-age=-1', 300 ], [ 'max-age=garbage', 300 ],
	[ 'max-age=99999999999999999999', 86400 ], [ 'max-age=1000&max-age=5000', 1000 ],
	[ 'max-age=5000&max-age=1000', 1000 ], [ 'max-age=20000&age=99999999999', 300 ])
{
	my ($query, $seconds) = @$_;
	is(refresh(curl("/keys?$query")), 1, "fetched with \"$query\"");
	my $share = status('extract(epoch FROM next_fetch_at - fetched_at)') / $seconds;
	ok($share >= 0.7 && $share <= 0.8, "good for $seconds s: the next fetch is at $share");
}

# What goes wrong: the old set stays, and the reason is told.
my $private = 'xyzzy-not-to-be-logged';
my $ec = Crypt::PK::ECC->new;
$ec->generate_key('secp256r1');
write_file('ec.json', json({ a => certificate($ec) }));
write_file('weak.json', json({ a => certificate(new_rsa(1024)) }));
write_file('half.json', json({ a => $certificate, b => certificate($ec) }));
write_file('expired.json', json({ a => certificate($key, from => '20200101000000Z', to => '20210101000000Z') }));
# Whether an answer or a connection is cut off is for the release of curl to say.
my $cut_off = qr/18 \(in curl: the answer was cut off\)|56 \(in curl: connection lost\)/;
my %wrong = (
	'status 404' => [ curl('/none'), qr/The answer has HTTP status 404\./ ],
	'status 500' => [ curl('/status?code=500'), qr/HTTP status 500/ ],
	'status 204' => [ curl('/status?code=204'), qr/HTTP status 204/ ],
	'status 206' => [ curl('/status?code=206'), qr/HTTP status 206/ ],
	'redirect to http' => [ curl("/redirect?to=http://localhost:$port->{plain}/keys"), qr/HTTP status 302/ ],
	'redirect to https' => [ curl("/redirect?to=https://localhost:$port->{good}/keys"), qr/HTTP status 302/ ],
	'redirect to the link-local address' => [ curl('/redirect?to=http://169.254.169.254/'), qr/HTTP status 302/ ],
	'http' => [ curl("http://localhost:$port->{plain}/keys"), qr/exited with 1\./ ],
	'another name' => [ curl('/keys', 'other_name'), qr/exited with 60 \(in curl: certificate not trusted\)/ ],
	'an unknown authority' => [ curl('/keys', 'unknown'), qr/exited with 60/ ],
	'an expired certificate' => [ curl('/keys', 'expired'), qr/exited with 60/ ],
	'the system\'s authorities' => [ curl('/keys') =~ s/--cacert \S+//r, qr/exited with 60/ ],
	'TLS below 1.2' => [ curl('/keys', 'old_tls', options => '--ciphers DEFAULT@SECLEVEL=0'), qr/exited with 35/ ],
	'no TLS' => [ curl('/keys', 'plain'), qr/exited with 35/ ],
	'connection reset' => [ curl('/keys', 'reset'), qr/exited with (7|35|56)/ ],
	'connection refused' => [ curl('https://localhost:1/'), qr/exited with 7 \(in curl: could not connect\)/ ],
	'no such host' => [ curl('https://no-such-host.invalid/', 'good', patience => 1), qr/exited with (6|28)/ ],
	'no TLS handshake' => [ curl('/keys', 'mute', patience => 1), qr/exited with 28 \(in curl: timeout\)/ ],
	'no answer' => [ curl('/never', 'good', patience => 1), qr/exited with 28/ ],
	'no body' => [ curl('/silent-body', 'good', patience => 1), qr/exited with 28/ ],
	'a byte a second' => [ curl('/slow', 'good', patience => 1), qr/exited with 28/ ],
	'body cut off' => [ curl('/truncated'), qr/exited with ($cut_off)/ ],
	'chunk cut off' => [ curl('/cut'), qr/exited with ($cut_off)/ ],
	'10 MB' => [ curl('/large'), qr/exited with 63/ ],
	'endless' => [ curl('/endless'), qr/The command printed too much\.|exited with 63/ ],
	'large header' => [ curl('/many-headers'), qr/has more than 16 kB/ ],
	'gzip bomb' => [ curl('/bomb'), qr/55000 / ],
	'gzip bomb, unpacked' => [ curl('/bomb', 'good', options => '--compressed'), qr/printed too much|exited with 63/ ],
	'HTML' => [ curl("/text?body=<html>$private</html>"), qr/55000 / ],
	'nothing' => [ curl('/text?body='), qr/55000 / ],
	'{}' => [ curl('/text?body={}', 'good', options => '--globoff'), qr/There is no usable key in it\./ ],
	'EC' => [ curl('/file?name=ec.json'), qr/There is no usable key in it\. Skipped: no RSA key \(1\)\./ ],
	'weak' => [ curl('/file?name=weak.json'), qr/Skipped: less than 2048 bits \(1\)\./ ],
	'expired keys' => [ curl('/file?name=expired.json'), qr/Skipped: expired \(1\)\./ ],
	'no header' => [ curl('/keys') =~ s/--include//r, qr/does not begin with an HTTP status line/ ],
	'not found' => [ 'no-such-program', qr/exited with 127 \(not found\)/ ],
	'not to be executed' => [ "$dir/keys.json", qr/exited with 126 \(not executable\)/ ],
	'killed' => [ 'kill -KILL $$', qr/ended by signal 9\./ ],
	'good answer, bad status' => [ curl('/keys') . '; exit 3', qr/exited with 3\./ ]);
$before = query($state);
my $begin = log_size();
for my $name (sort keys %wrong)
{
	my ($command, $expected) = @{ $wrong{$name} };
	my $answer = refresh($command);
	like($answer, qr/^55000 /, "refused: $name");
	like($answer, $expected, "and why: $name");
	is(status('fetch_outcome'), $answer =~ s/^55000 //r, "the status says so: $name");
	is_good($token, "the old key verifies: $name");
}
is(query($state), $before, 'none of them changed anything');
is(status('signing_keys'), 1, 'there is the old set');
ok(status('next_fetch_at > now() AND next_fetch_at <= now() + interval \'15 min\'') eq 't', 'the next try is in 15 minutes at most');
unlike(slurp_file("$dir/requests.log"), qr/^(?!GET)/m, 'the server was only asked by GET');
is(system(qw(curl -s -o /dev/null --tls-max 1.1 --ciphers DEFAULT@SECLEVEL=0 --cacert), "$dir/ca.pem", "https://localhost:$port->{old_tls}/keys"),
	0, 'and speaks old TLS to who wants it');
my $log = logged($begin);
like($log, qr/LOG:  could not fetch signing keys for database "postgres"\n.*DETAIL:  The command exited with 60 \(in curl: certificate not trusted\)\. It said: curl: \(60\)/,
	'the log has what curl said');
unlike($log, qr/\Q$private\E|BEGIN CERTIFICATE/, 'but nothing of what was fetched');

# Until they end: then nothing is verified, and nothing is called invalid.
query(q{UPDATE overten_auth.signing_keys SET expires_at = clock_timestamp() + interval '2 s'});
is_good($token, 'a key is used to its end');
ok($node->poll_query_until('postgres', "SELECT outcome('$token') = '55000'"), 'then verification is unavailable');
is(status('signing_keys'), 0, 'the status says so');
is(refresh(curl('/keys')), 1, 'fetched at last');
is_good($token, 'and used');

# A key that cannot be used is skipped, and counted.
is(refresh(curl('/file?name=half.json')), 1, 'one of two keys');
is(status('fetch_outcome'), '1 key. Skipped: no RSA key (1).', 'says the status');
is(refresh(curl('/keys')), 1, 'fetched again');
is(status('fetch_outcome'), '1 key.', 'without a word of that');

# What the command finds, and what the log has of its words.
like(refresh("{ ls /proc/self/fd; cat | wc -c; grep -E 'SigBlk|SigIgn' /proc/self/status; cut -d' ' -f5 /proc/self/stat; echo \$\$; ls postmaster.pid; } >$dir/found; exit 9"),
	qr/exited with 9\./, 'the command looks around');
my $found = slurp_file("$dir/found");
like($found, qr/\A0\n1\n(10\n)?2\n3\n0\n/, 'no descriptor of the server (but of the shell and of ls), and nothing on stdin');
like($found, qr/SigBlk:\t0{16}\nSigIgn:\t[0-9a-f]{8}[08]0{7}\n/, 'no signal is blocked or ignored');
like($found, qr/^(\d+)\n\1\npostmaster\.pid\n\z/m, 'it leads its process group, in the data directory');
$begin = log_size();
refresh(q{printf 'a\n\033[31mred\001\303\251\r\n' >&2; yes "$(printf 'FATAL:  forged\nx')" | head -c 1000000 >&2; exit 1});
my ($said) = logged($begin) =~ /It said: (.*)$/m;
like($said, qr/^a \?\[31mred\?\?\?  FATAL:  forged x/, 'what it says is one printable line');
ok(length $said > 190 && length $said <= 200, 'of 200 characters at most');

# Children that hold the pipes do not keep the worker, and do not stay.
my $since = time;
like(refresh("sleep $nap[1] & sleep $nap[1] & exit 4"), qr/exited with 4/, 'children in the background');
cmp_ok(time - $since, '<', 14, 'are not waited for');
wait_until('they are gone, too', sub { processes('sleep', $nap[1]) == 0 });
like(refresh('(yes; yes) & (yes >&2; yes) & exit 4'), qr/exited with 4|printed too much/, 'nor if they write');

# A set that rotates, in a session that has all in its caches.
my $reader = $node->background_psql('postgres', on_error_stop => 0);
is($reader->query("SELECT outcome('$token')"), 'ok', 'cached') for 1 .. 2;
write_file('keys.json', json({ 'key-1' => $certificate, 'key-2' => certificate($next) }));
is(refresh(curl('/keys?max-age=20000')), 2, 'a key is added');
is($reader->query("SELECT outcome('$_')"), 'ok', 'both verify') for $token, $next_token;
write_file('keys.json', json({ 'key-2' => certificate($next) }));
is(refresh(), 1, 'the old one is withdrawn');
is($reader->query("SELECT outcome('$token')"), '28000', 'and refused at once');
is($reader->query("SELECT outcome('$next_token')"), 'ok', 'the new one is not');
write_file('keys.json', jwk_set(jwk($key, 'key-1')));
is(refresh(), 1, 'a JWK set');
is(query(q{SELECT expires_at < now() + interval '31 h' AND certificate_expires_at IS NULL FROM overten_auth.signing_keys}),
	't', 'which ends too, when it is fetched');
query("SELECT overten_load_signing_keys(\$d\$" . jwk_set(jwk($key, 'key-1')) . "\$d\$)");
is(query('SELECT expires_at IS NULL FROM overten_auth.signing_keys'), 't', 'but not when it is loaded by hand');

# Unknown key ids make nobody fetch.
my $requests = slurp_file("$dir/requests.log");
my $tried = status('fetch_tried_at');
my (undef, $payload, $signature) = split /\./, $token;
my @random = map { join '.', b64(json(header(kid => "random-$_"))), $payload, $signature } 1 .. 1000;
is($node->safe_psql('postgres', join '', map { "SELECT outcome('$_');\n" } @random),
	join("\n", ('28000') x 1000), 'a thousand tokens with random key ids are refused');
is(status('fetch_tried_at'), $tried, 'nothing is fetched for them');
is(slurp_file("$dir/requests.log"), $requests, 'the server has seen nothing');

# "Not modified".
is(refresh(curl('/unchanged?max-age=20000')), 1, 'unchanged');
is(status('fetch_outcome'), '1 key, unchanged.', 'is told');
is(query('SELECT expires_at IS NULL FROM overten_auth.signing_keys'), 't', 'keys loaded by hand are as they were');
write_file('keys.json', json({ 'key-1' => $certificate }));
my $conditional = curl('/etag', 'good', options => "--etag-save $dir/etag --etag-compare $dir/etag");
is(refresh($conditional), 1, 'a conditional command gets the keys');
is(status('fetch_outcome'), '1 key.', 'at first');
query(q{UPDATE overten_auth.signing_keys SET expires_at = now() + interval '3 h'});
is(refresh(), 1, 'and the second time');
is(status('fetch_outcome'), '1 key, unchanged.', 'that they are the same');
is(query(q{SELECT expires_at > now() + interval '28 h' FROM overten_auth.signing_keys}), 't', 'which moves their end');
query(q{UPDATE overten_auth.signing_keys SET expires_at = now() + interval '3 h', certificate_expires_at = now() + interval '5 h'});
is(refresh(), 1, 'once more');
is(query(q{SELECT expires_at = certificate_expires_at FROM overten_auth.signing_keys}), 't', 'but not beyond the certificate\'s');
query('TRUNCATE overten_auth.signing_keys');
like(refresh(), qr/nothing has changed, but there are no keys/, 'no keys is not "unchanged"');
is(refresh(curl('/keys?max-age=20000')), 1, 'fetched again');

# Locks.
$reader->query_safe('BEGIN; LOCK TABLE overten_auth.signing_keys IN SHARE MODE');
like(refresh(), qr/They could not be loaded: canceling statement due to lock timeout\./, 'a lock is not waited for long');
$reader->query_safe('ROLLBACK');
is(refresh(), 1, 'fetched when it is gone');

# Who may see the command, and change it: a reload, not a session.
$node->safe_psql('postgres', 'CREATE ROLE nobody');
is(sqlstate_of($node, 'SET ROLE nobody; SHOW overten_auth.signing_keys_command'), '42501', 'not everybody sees the command');
is(sqlstate_of($node, "SET overten_auth.signing_keys_command = 'true'"), '55P02', 'no session sets it');
is(sqlstate_of($node, "ALTER DATABASE postgres SET overten_auth.signing_keys_command = 'true'"), '55P02', 'nor for a database');
is(sqlstate_of($node, 'SET ROLE nobody; SELECT overten_refresh_signing_keys()'), '42501', 'not everybody may fetch');
sub set_command
{
	my ($value) = @_;
	$node->append_conf('postgresql.conf', "overten_auth.signing_keys_command = '$value'");
	$node->reload;
	$node->poll_query_until('postgres', "SELECT current_setting('overten_auth.signing_keys_command') = '$value'") or die;
}
set_command('exit 77');
like(refresh(), qr/exited with 77/, 'a reload changes it');
set_command('');
is(refresh(), '55000 There is no command to fetch them with.', 'none');
is(status('key_worker'), 'off', 'is told');
$begin = log_size();
set_command(". \"$dir/command\"");
ok($node->poll_query_until('postgres', q{SELECT fetch_outcome = '1 key.' FROM overten_status()}), 'a reload ends the pause after a failure');
like(logged($begin), qr/LOG:  fetched signing keys for database "postgres"/, 'that it is well again is logged');
is(query("SET overten_auth.firebase_project_id = ''; SELECT refresh()"), '55000 No Firebase project is configured.', 'no project');
$node->safe_psql('postgres', 'CREATE DATABASE unlisted');
$node->safe_psql('unlisted', 'CREATE EXTENSION overten_auth CASCADE; ' . REFRESH_FUNCTION);
is($node->safe_psql('unlisted', 'SELECT refresh()'), '55000 The background workers do not look after this database.', 'a database that is not listed');
query('TRUNCATE overten_auth.signing_keys');
$node->reload;
ok($node->poll_query_until('postgres', 'SELECT signing_keys = 1 FROM overten_status()'), 'keys that are lost are fetched again');
$_->quit foreach $reader, $asker;
wait_until('nothing is left', sub { processes('sleep', $nap[1]) == 0 });

$node->stop;
done_testing();
