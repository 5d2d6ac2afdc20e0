# Signing keys that a background worker fetches: by the real default command,
# from a real HTTPS server in all the ways in which it can go wrong, and what
# becomes of the command when it does not end or its worker does.  Not in
# pg_regress, for there are workers, processes, restarts, and the server log.

use strict;
use warnings FATAL => 'all';

use Crypt::PK::ECC;
use FindBin;
use IPC::Run;
use JSON::PP qw(decode_json);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

use lib $FindBin::RealBin;
use FirebaseTokens;
use OvertenTest;

my $dir = PostgreSQL::Test::Utils::tempdir;
my ($key, $next) = (new_rsa(), new_rsa());
my $token = token($key, header(), claims());
my $next_token = token($next, header(kid => 'key-2'), claims());
my $certificate = certificate($key);

sub write_file
{
	my ($name, $content) = @_;
	open my $file, '>:raw', "$dir/$name.new" or die $!;
	print $file $content;
	close $file or die $!;
	rename "$dir/$name.new", "$dir/$name" or die $!;
}

# The HTTPS server.
PostgreSQL::Test::Utils::system_or_bail("$FindBin::RealBin/../https/make-certificates", $dir);
write_file('keys.json', json({ 'key-1' => $certificate }));
write_file('requests.log', '');
my $server = IPC::Run::start([ 'node', "$FindBin::RealBin/../https/server.mjs", $dir ], '>', "$dir/server.out", '2>&1');
wait_until('the server listens', sub { -e "$dir/ports.json" });
my $port = decode_json(slurp_file("$dir/ports.json"));
END { my $status = $?; $server->kill_kill if $server; $? = $status; }

# The setting runs a file, so that most tests need no reload.
my $settings = <<CONF;
shared_preload_libraries = 'overten_auth'
overten_auth.databases = 'postgres, other'
overten_auth.firebase_project_id = '${\PROJECT}'
overten_auth.signing_keys_command = '. "$dir/command"'
timezone = UTC
CONF
write_file('command', 'exit 1');
my $node = create_node('fetch', $settings, allows_streaming => 1);

# The default command, with another address and authority, and less patience.
my $default = $node->safe_psql('postgres',
	q{SELECT boot_val FROM pg_settings WHERE name = 'overten_auth.signing_keys_command'});
sub curl
{
	my ($path, $name, %how) = @_;
	my $url = $path =~ /^https?:/ ? $path : "https://localhost:$port->{$name // 'good'}$path";
	my $command = $default;
	$command =~ s{https://www\.googleapis\.com/\S+}{'$url'} or die $command;
	$command =~ s{--max-time 10}{--max-time 1} or die $command;
	return "$command --noproxy localhost --cacert $dir/ca.pem " . ($how{options} // '');
}
sub command { write_file('command', "$_[0]\n"); }

my $functions = <<'SQL';
CREATE FUNCTION refresh() RETURNS text LANGUAGE plpgsql AS $$
DECLARE detail text;
BEGIN
	RETURN overten_refresh_signing_keys();
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	RETURN SQLSTATE || ' ' || detail;
END $$;
SQL
$node->safe_psql('postgres', $functions . OUTCOME_FUNCTION);
sub query { return $node->safe_psql('postgres', $_[0]); }
sub refresh { command($_[0]) if defined $_[0]; return query('SELECT refresh()'); }
sub status { return query("SELECT $_[0] FROM overten_status()"); }
sub is_good { return is(query("SELECT outcome('$_[0]')"), 'ok', $_[1]); }
my $state = q{SELECT string_agg(kid || xmin || ctid::text || loaded_at, ',' ORDER BY kid) || (SELECT count(*) FROM overten_auth.audit_log) FROM overten_auth.signing_keys};

# How long commands sleep: seconds by which they are known, here and in no other run.
my @nap = map { "7" . $$ . $_ } 0 .. 9;

# How many processes have these words as their command line?
sub processes
{
	my $words = join "\0", @_;
	my $count = 0;
	for my $file (glob '/proc/[0-9]*/cmdline')
	{
		open my $in, '<', $file or next;
		my $line = do { local $/; <$in> } // '';
		$count++ if $line eq "$words\0";
	}
	return $count;
}
sub log_size { return -s $node->logfile; }
sub logged { return slurp_file($node->logfile, $_[0]); }
sub start_psql
{
	my ($sql) = @_;
	my %psql = (out => '');
	$psql{run} = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', $sql ],
		'>', \$psql{out}, '2>&1');
	return \%psql;
}
sub finish_psql { my ($psql) = @_; $psql->{run}->finish; return $psql->{out} =~ s/\n\z//r; }

# Where nothing can fetch, nobody waits long to hear so.
my $unable = create_node('unable', $settings . "max_worker_processes = 0\n");
my $in_vain = IPC::Run::start([ 'psql', '-XAtq', '-d', $unable->connstr('postgres'), '-c', 'SELECT overten_refresh_signing_keys()' ],
	'>', \my $in_vain_out, '2>', \my $in_vain_err);
my $in_vain_since = time;

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
	'no such host' => [ curl('https://no-such-host.invalid/'), qr/exited with (6|28)/ ],
	'no TLS handshake' => [ curl('/keys', 'mute'), qr/exited with 28 \(in curl: timeout\)/ ],
	'no answer' => [ curl('/never'), qr/exited with 28/ ],
	'no body' => [ curl('/silent-body'), qr/exited with 28/ ],
	'a byte a second' => [ curl('/slow'), qr/exited with 28/ ],
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
cmp_ok(time - $since, '<', 10, 'are not waited for');
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
$node->safe_psql('unlisted', "CREATE EXTENSION overten_auth CASCADE; $functions");
is($node->safe_psql('unlisted', 'SELECT refresh()'), '55000 The background workers do not look after this database.', 'a database that is not listed');
query('TRUNCATE overten_auth.signing_keys');
$node->reload;
ok($node->poll_query_until('postgres', 'SELECT signing_keys = 1 FROM overten_status()'), 'keys that are lost are fetched again');

# A database that gets another name while its keys are fetched does not get them:
# another one may be meant by the name now, and nobody looks after this one.
$node->safe_psql('postgres', 'CREATE DATABASE other');
$node->safe_psql('other', 'CREATE EXTENSION overten_auth CASCADE');
command("sleep $nap[6] & until [ -e $dir/go ]; do sleep 0.1; done; kill \$!; " . curl('/keys'));
$begin = log_size();
$node->reload;
wait_until('the command runs', sub { processes('sleep', $nap[6]) == 1 });
$node->safe_psql('postgres', 'ALTER DATABASE other RENAME TO elsewhere');
write_file('go', '');
wait_until('the worker has seen it', sub { logged($begin) =~ /could not fetch signing keys for database "other"\n.*DETAIL:  The database (?:was renamed while they were fetched|does not exist any more)\./ });
is($node->safe_psql('elsewhere', 'SELECT count(*) FROM overten_auth.signing_keys'), 0, 'keys are not for a database of another name');
unlink "$dir/go";
command(curl('/keys'));
$node->safe_psql('postgres', 'DROP DATABASE elsewhere');

# A command that does not end: while it runs, the database can be dropped; it
# is killed with its children after 15 seconds.
$node->safe_psql('postgres', 'CREATE DATABASE other');
$node->safe_psql('other', 'CREATE EXTENSION overten_auth CASCADE');
command("sleep $nap[2] & sleep $nap[3]");
$node->reload;
wait_until('the command runs', sub { processes('sleep', $nap[3]) == 1 });
$node->safe_psql('postgres', 'DROP DATABASE other');
is(processes('sleep', $nap[3]), 1, 'DROP DATABASE goes through while the command runs');
$since = time;
my $waiting = start_psql('SELECT refresh()');
wait_until('two run', sub { processes('sleep', $nap[3]) == 2 });
is(status('key_worker'), 'fetching', 'the status says that it runs');
is(finish_psql($waiting), '55000 The command took longer than 15 seconds.', 'the command has a deadline');
my $took = time - $since;
ok($took > 14 && $took < 25, "of 15 seconds ($took)");
wait_until('nothing of it is left', sub { processes('sleep', $nap[2]) + processes('sleep', $nap[3]) == 0 });

# A worker that is told to end.
my $hang = "echo \$PPID >$dir/worker; trap '' TERM; sleep $nap[4] & sleep $nap[5] & wait; wait";
sub hang
{
	unlink "$dir/worker";
	command($_[0]);
	my $psql = start_psql('SELECT refresh()');
	wait_until('the command runs', sub { -s "$dir/worker" && processes('sleep', $nap[5]) == 1 });
	return ($psql, 0 + slurp_file("$dir/worker"));
}
my $pid;
is(refresh(curl('/keys')), 1, 'fetched again');
($waiting, $pid) = hang($hang);
$since = time;
kill TERM => $pid;
is(finish_psql($waiting), '55000 The worker was told to end.', 'SIGTERM ends the worker');
cmp_ok(time - $since, '<', 8, 'soon');
wait_until('the command ends, though it ignores that', sub { processes('sleep', $nap[4]) + processes('sleep', $nap[5]) == 0 });
command(curl('/keys'));
ok($node->poll_query_until('postgres', q{SELECT fetch_outcome = '1 key.' FROM overten_status()}), 'the next try comes by itself');

# A server that stops.
for my $mode ('fast', 'immediate')
{
	hang($hang);
	$since = time;
	$node->stop($mode);
	cmp_ok(time - $since, '<', 10, "$mode shutdown does not wait for the command");
	wait_until('the command is gone', sub { processes('sleep', $nap[4]) + processes('sleep', $nap[5]) == 0 });
	pass("$mode shutdown leaves nothing of it");
	command(curl('/keys'));
	$node->start;
	ok($node->poll_query_until('postgres', 'SELECT fetched_at IS NOT NULL FROM overten_status()'), 'fetched after the start');
}
hang($hang);
my ($postmaster) = slurp_file($node->data_dir . '/postmaster.pid') =~ /^(\d+)/;
$node->kill9;
wait_until('the command is gone', sub { processes('sleep', $nap[4]) + processes('sleep', $nap[5]) == 0 });
pass('nor does the death of the postmaster');
command(curl('/keys'));
wait_until('init has reaped the postmaster', sub { !kill 0, $postmaster });
$node->start;

# A worker that is killed takes the server down, and it comes back; the command
# itself dies with it, where it has replaced the shell.
$node->poll_query_until('postgres', 'SELECT fetched_at IS NOT NULL FROM overten_status()');
$node->append_conf('postgresql.conf', 'restart_after_crash = on');
$node->reload;
($waiting, $pid) = hang("echo \$PPID >$dir/worker; exec sleep $nap[5]");
kill KILL => $pid;
wait_until('the command is gone', sub { processes('sleep', $nap[5]) == 0 });
$waiting->{run}->finish;
command(curl('/keys'));
ok($node->poll_query_until('postgres', 'SELECT fetched_at IS NOT NULL FROM overten_status()'), 'fetched after a crash');
is_good($token, 'and used');

# A session that waits can be cancelled; the fetch goes on.
my $until_told = "echo \$PPID >$dir/worker; sleep $nap[5] & until [ -e $dir/go ]; do sleep 0.1; done; kill \$!; " . curl('/keys');
hang($until_told);
is(query(q{SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE query = 'SELECT refresh()'}), 1, 'cancelled');
write_file('go', '');
ok($node->poll_query_until('postgres', q{SELECT fetch_outcome = '1 key.' FROM overten_status()}), 'fetched all the same');

# DROP EXTENSION while the command runs.
unlink "$dir/go";
hang($until_told);
$begin = log_size();
query('DROP EXTENSION overten_auth CASCADE');
is(processes('sleep', $nap[5]), 1, 'DROP EXTENSION goes through while the command runs');
write_file('go', '');
wait_until('the worker has seen it', sub { logged($begin) =~ /DETAIL:  The database does not have the extension\./ });
query('CREATE EXTENSION overten_auth');

# A standby has what its primary has, until it is promoted.
$node->reload;
ok($node->poll_query_until('postgres', 'SELECT signing_keys = 1 FROM overten_status()'), 'fetched for the new extension');
$node->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'backup', has_streaming => 1);
$standby->start;
is($standby->safe_psql('postgres', 'SELECT refresh()'), '55000 This is a standby; it has the keys of its primary.', 'a standby does not fetch');
is($standby->safe_psql('postgres', 'SELECT signing_keys FROM overten_status()'), 1, 'and has the keys');
$standby->promote;
ok($standby->poll_query_until('postgres', 'SELECT fetched_at IS NOT NULL FROM overten_status()'), 'fetched after the promotion');
$standby->stop;

# No place for a worker; nothing preloaded.
$reader->quit;
$node->append_conf('postgresql.conf', "max_logical_replication_workers = 0\nmax_worker_processes = 2");
$node->restart;
is(refresh(), '55000 There is no place for another background worker.', 'no place for the worker');
like(status('fetch_outcome'), qr/no place/, 'the status says so');
$node->append_conf('postgresql.conf', q{shared_preload_libraries = ''});
$node->restart;
is(refresh(), '55000 The library is not preloaded.', 'not preloaded');
is(status('key_worker IS NULL AND fetch_outcome IS NULL'), 't', 'no status either');
$in_vain->finish;
like($in_vain_err, qr/ERROR:  signing keys were not fetched\nDETAIL:  It took longer than 30 seconds\./, 'no launcher: not for ever');
wait_until('nothing is left', sub { processes('sleep', $nap[1]) + processes('sleep', $nap[5]) == 0 });
$_->stop for $node, $unable;

done_testing();
