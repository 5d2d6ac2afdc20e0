
# The gateway with a primary and two standbys: which server it asks, what it does
# when one refuses, is cut off, killed or frozen, and that it finds the primary after
# a failover.  Nothing that writes or counts is sent twice.  pg_regress has neither
# HTTP nor several servers.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use GatewayTest;
use IPC::Run;
use JSON::PP qw(decode_json);
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use StandbyTest;
use Test::More;
use Time::HiRes qw(usleep);

my $bound = 1000;
my $json = 'Content-Type: application/json';
my $unavailable = '503 service_unavailable';
my $folder = PostgreSQL::Test::Utils::tempdir;

my $primary = add_api(create_primary('primary', $bound, "max_connections = 50\n"));
my $org = create_org($primary, 'Org');
ask($primary, "SELECT overten_set_api_access('$org', true), overten_add_member('$org', 'ada'), overten_add_member('$org', 'bob')");
my ($secret, $key) = mint($primary, $org);
my ($ada, $bob) = map { 'Authorization: Bearer ' . sign($_) } 'ada', 'bob';
my $keys = "/api/v1/organizations/$org/api-keys";
ask($primary, 'ALTER ROLE overten_gateway SET statement_timeout = 0');
$primary->backup('base');
my @standbys = map { create_standby($primary, 'base', $_) } 'standby1', 'standby2';
my @servers = ($primary, @standbys);
my %name_of = map { ($_->host . ':' . $_->port => $_->name) } @servers;

sub bearer
{
	return "Authorization: Bearer $_[0]";
}

# How the gateway is told of servers.
sub servers
{
	my (@nodes) = @_;

	return (PGHOST => join(',', map { $_->host } @nodes), PGPORT => join(',', map { $_->port } @nodes));
}

sub start_with
{
	my ($name, @environment) = @_;

	return start_gateway($primary, $name, servers(@servers), PGTARGETSESSIONATTRS => 'prefer-standby',
		CHECK_INTERVAL_MS => 500, QUERY_TIMEOUT_MS => 30_000, @environment);
}

# What the access log says of the requests since then, of a path or of all.
my %read;

sub logged
{
	my ($gateway, $path) = @_;
	my ($lines) = slurp_file($gateway->{out}, $read{ $gateway->{out} } // 0) =~ /\A(.*\n)?/s;
	my @entries = map { decode_json($_) } split /\n/, $lines // '';

	$read{ $gateway->{out} } += length($lines // '');
	return grep { !defined $path || ($_->{path} // '') eq $path } @entries;
}

# Send requests, and wait until they are in the log.  Returns their statuses, and who
# has answered.
sub send_all
{
	my ($gateway, $count, @request) = @_;
	my (%statuses, %answered, @entries);

	logged($gateway);
	$statuses{ request(@request)->{status} }++ foreach 1 .. $count;
	wait_until('the requests are logged', sub { push @entries, grep { $_->{method} eq $request[1] } logged($gateway, $request[2]); @entries >= $count });
	$answered{ $name_of{ $_->{server} // '' } // 'nobody' }++ foreach @entries;
	return (join(' ', sort keys %statuses), join(' ', sort keys %answered), @entries);
}

sub verify_at
{
	my ($gateway, $which, $count) = @_;

	return send_all($gateway, $count // 6, $gateway->{url}, 'GET', '/api/v1/verify', [ bearer($which) ]);
}

# Wait until the gateway has seen how the servers are: the last that it has said of
# each.
sub wait_seen
{
	my ($gateway, %expected) = @_;
	my %nodes = map { ($_->name => $_->host . ':' . $_->port) } @servers;

	wait_until('the gateway sees ' . join(', ', map { "$_: $expected{$_}" } sort keys %expected), sub {
		my $said = slurp_file($gateway->{err});
		foreach my $node (keys %expected)
		{
			my @of_it = $said =~ /^gateway: \Q$nodes{$node}\E (is .*)$/mg;
			return unless @of_it && $of_it[-1] =~ $expected{$node};
		}
		return 1;
	});
	return;
}

my %well = (primary => 'a primary, on timeline 1', map { $_ => 'a standby that verifies' } 'standby1', 'standby2');


# What is wrong with the settings

foreach my $case (
	[ 'ports for other hosts', qr/PGPORT must have one port, or as many as PGHOST has hosts \(3\)$/m, PGHOST => 'a,b,c', PGPORT => '1,2' ],
	[ 'a port that is none', qr/PGPORT must be one port, or a list of ports/, PGPORT => '5432,x' ],
	[ 'a port that is too high', qr/PGPORT must be one port, or a list of ports/, PGPORT => '65536' ],
	[ 'an unknown target', qr/PGTARGETSESSIONATTRS must be one of: any, read-write, read-only, primary, standby, prefer-standby$/m, PGTARGETSESSIONATTRS => 'master' ],
	[ 'an unknown balance', qr/PGLOADBALANCEHOSTS must be one of: random, disable$/m, PGLOADBALANCEHOSTS => 'yes' ])
{
	my ($name, $said, %environment) = @$case;
	local %ENV = (%ENV, %environment);

	IPC::Run::run [ 'node', "$FindBin::RealBin/../../gateway/server.mjs" ], '>', \my $out, '2>', \my $err;
	like($err, $said, "$name: what is said");
}


# Which server is asked

wait_within($_) foreach @standbys;
my $gateway = start_with('gateway');
wait_seen($gateway, %well);
my ($statuses, $answered) = verify_at($gateway, $secret);
is("$statuses: $answered", '200: standby1 standby2', 'standbys take turns in verifying');
($statuses, $answered) = send_all($gateway, 6, $gateway->{url}, 'GET', $keys, [$bob]);
is("$statuses: $answered", '200: standby1 standby2', 'and in what else only reads');
($statuses, $answered) = send_all($gateway, 4, $gateway->{authorize_url}, 'GET', '/authorize', [ bearer($secret) ]);
is("$statuses: $answered", '200: standby1 standby2', 'and in admitting');
is(request($gateway->{url}, 'GET', '/readyz')->{body}, '{"status":"ok"}', 'readyz');

# Of a missing project the primary alone is told, because it can be set there alone.
ask($primary, 'CREATE DATABASE unset');
ask([ $primary, 'unset' ], 'CREATE EXTENSION overten_auth CASCADE; GRANT EXECUTE ON FUNCTION overten_handle_request(text, text, json, bytea) TO overten_gateway');
my $unset = start_with('unset', PGDATABASE => 'unset');
wait_seen($unset, %well);
verify_at($unset, $secret);
is(join(' ', map { $name_of{$_} } slurp_file($unset->{err}) =~ /cannot sign in, .* in the database unset at (\S+) overten_auth\.firebase_project_id is not set/g),
	'primary', 'who is told that nobody can sign in');
stop_process($unset);

# Who writes reads what was written, although no standby has replayed it.
pause_replay($_) foreach @standbys;
($statuses, $answered) = send_all($gateway, 1, $gateway->{url}, 'POST', $keys, [ $ada, $json ], '{"name":"new"}');
is("$statuses: $answered", '201: primary', 'the primary writes');
my $response = request($gateway->{url}, 'POST', $keys, [ $ada, $json ], '{"name":"newer"}');
my $new = decode_json($response->{body})->{secret};
($statuses, $answered) = verify_at($gateway, $new, 2);
is("$statuses: $answered", '200: primary', 'a key works as soon as it is minted');
($statuses, $answered) = send_all($gateway, 1, $gateway->{url}, 'GET', $keys, [$ada]);
is("$statuses: $answered", '200: primary', 'and whoever has minted it sees it');
is(summary(request($gateway->{authorize_url}, 'GET', '/authorize', [ bearer($new) ])), '200', 'and it is admitted');

# Standbys beyond the bound
wait_seen($gateway, standby1 => 'does not verify', standby2 => 'does not verify');
($statuses, $answered) = verify_at($gateway, $secret);
is("$statuses: $answered", '200: primary', 'beyond their bound the standbys are not asked');
resume_replay($standbys[1]);
wait_seen($gateway, standby2 => $well{standby2});
($statuses, $answered) = verify_at($gateway, $secret);
is("$statuses: $answered", '200: standby2', 'one that is within it is');
ask($primary, "SELECT overten_revoke_key('$org', '" . decode_json($response->{body})->{key_id} . "')");
usleep(1000 * $bound);
is((verify_at($gateway, $new))[0], '401', 'a key that was revoked is refused by all');

# A standby that the gateway takes for well
resume_replay($standbys[0]);
wait_within($standbys[0]);
my $trusting = start_with('trusting', CHECK_INTERVAL_MS => 60000, PGLOADBALANCEHOSTS => 'disable', servers(@standbys[ 0, 1 ], $primary));
wait_seen($trusting, %well);
pause_replay($standbys[0]);
ask($primary, 'SELECT txid_current()');
wait_beyond($standbys[0], qr/Replay is behind/);
my @entries;
($statuses, $answered, @entries) = verify_at($trusting, $secret, 1);
is("$statuses: $answered", '200: standby2', 'when it refuses, the next one is asked');
is_deeply($entries[0]{passed}, [ $standbys[0]->host . ':' . $standbys[0]->port . ' 503' ], 'which the access log says');
wait_seen($trusting, standby1 => 'does not verify');
resume_replay($standbys[0]);
wait_within($standbys[0]);
stop_process($trusting);

# Quotas, which only the primary counts
my ($counted, $counted_key) = mint($primary, $org);
ask($primary, "SELECT overten_set_limit('key', '$counted_key', 'daily', 5, '1 day')");
wait_replayed($primary, $_) foreach @standbys;
wait_seen($gateway, %well);
my @admitted = map { request($gateway->{authorize_url}, 'GET', '/authorize', [ bearer($counted) ])->{status} } 1 .. 8;
is("@admitted", '200 200 200 200 200 429 429 429', 'a quota is given out once');
is(ask($primary, "SELECT remaining FROM overten_limit_status('$org') WHERE key_id = '$counted_key'"), 0, 'by the primary');
wait_until('all are logged', sub { push @entries, logged($gateway, '/authorize'); grep({ $_->{status} == 429 } @entries) == 3 });
is(scalar(grep { grep { / 55000$/ } @{ $_->{passed} // [] } } @entries), 1, 'which is asked at once, after it was learnt');


# Which servers may be asked at all

foreach my $case (
	[ 'any', '200: primary standby1 standby2', 201 ],
	[ 'standby', '200: standby1 standby2', 503 ],
	[ 'read-only', '200: standby1 standby2', 503 ],
	[ 'primary', '200: primary', 201 ],
	[ 'read-write', '200: primary', 201 ])
{
	my ($target, $reads, $writes) = @$case;
	my $aimed = start_with("target_$target", PGTARGETSESSIONATTRS => $target);

	wait_seen($aimed, %well);
	($statuses, $answered) = verify_at($aimed, $secret);
	is("$statuses: $answered", $reads, "$target: reading");
	is(request($aimed->{url}, 'POST', $keys, [ $ada, $json ], '{"name":"x"}')->{status}, $writes, "$target: writing");
	is(request($aimed->{url}, 'GET', '/readyz')->{body}, $writes == 201 ? '{"status":"ok"}' : '{"status":"read_only"}', "$target: readyz");
	stop_process($aimed);
}
my $twice = start_with('twice', servers($primary, $primary));
wait_until('it says that there are two', sub { slurp_file($twice->{err}) =~ /^gateway: two servers say that they are the primary, on the same timeline\./m });
is(request($twice->{url}, 'POST', $keys, [ $ada, $json ], '{"name":"x"}')->{status}, 201, 'of two primaries on a timeline the first is asked');
stop_process($twice);
my $single = start_with('single', servers($primary), PGTARGETSESSIONATTRS => 'standby');
is(summary(request($single->{url}, 'GET', '/api/v1/verify', [ bearer($secret) ])), $unavailable, 'a single server that is not of the kind');
is(summary(request($single->{url}, 'GET', '/readyz')), $unavailable, 'and readyz');
stop_process($single);


# Lost connections

# Functions that log that they were called, wait, and count.
my $original = ask($primary, q{SELECT string_agg(pg_get_functiondef(oid), ';') FROM pg_proc
	WHERE oid IN ('overten_authorize_request'::regproc, 'overten_handle_request(text, text, json, bytea)'::regprocedure)});
ask($primary, <<'EOQ');
CREATE FUNCTION wait_here(what text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	RAISE LOG 'asked to %', what;
	PERFORM pg_advisory_lock_shared(1), pg_sleep(60);
END $$;
CREATE OR REPLACE FUNCTION overten_authorize_request(query text, headers json)
	RETURNS overten_auth.http_response LANGUAGE plpgsql AS $$
BEGIN
	PERFORM public.wait_here('authorize');
	RETURN (200, '{}'::json, '{}'::text);
END $$;
CREATE OR REPLACE FUNCTION overten_handle_request(method text, path text, headers json, body bytea)
	RETURNS overten_auth.http_response LANGUAGE plpgsql AS $$
BEGIN
	IF path LIKE '%slow' THEN
		PERFORM public.wait_here(method);
	END IF;
	RETURN (401, '{}'::json, '{}'::text);
END $$;
EOQ
wait_replayed($primary, $_) foreach @standbys;

# Send a request, cut each connection on which it is about to be answered, and count
# the servers' calls.
sub cut
{
	my ($what, @request) = @_;
	my %start = map { $_->name => -s $_->logfile } @servers;
	my $calls = sub {
		my $count = 0;
		foreach my $node (@servers)
		{
			$count += () = slurp_file($node->logfile, $start{ $node->name }) =~ /LOG:  asked to $what/g;
		}
		return $count;
	};
	my $out = "$folder/$what";
	my $client = IPC::Run::start([ 'curl', '--silent', '--max-time', 60, '--noproxy', '*', '--write-out', '%{http_code} %header{retry-after}',
			'--output', '/dev/null', '--request', @request ], '<', '/dev/null', '>', $out);

	wait_until("$what is answered", sub {
		ask($_, q{SELECT pg_terminate_backend(a.pid) FROM pg_stat_activity a JOIN pg_locks l USING (pid) WHERE l.locktype = 'advisory'}) foreach @servers;
		return !$client->pumpable;
	});
	$client->finish;
	return slurp_file($out) . ', asked ' . $calls->();
}

is(cut('authorize', 'GET', "$gateway->{authorize_url}/authorize", '--header', bearer($secret)),
	'503 1, asked 1', 'a question that counts is asked once, whatever becomes of the answer');
is(cut('POST', 'POST', "$gateway->{url}/api/v1/slow"), '503 1, asked 1', 'and so is a request that writes');
is(cut('GET', 'GET', "$gateway->{url}/api/v1/slow"), '503 1, asked 3', 'but one that reads goes to all');
ask($primary, "$original; DROP FUNCTION wait_here");
wait_replayed($primary, $_) foreach @standbys;
stop_process($gateway);


# A standby is killed, and one frozen, under load.  It must not stay so, or it could not
# be stopped.

my @frozen;
END { kill 'CONT', @frozen }
$gateway = start_with('surviving');
wait_seen($gateway, %well);
my $load = start_process('load', {}, 'node', "$FindBin::RealBin/../http/load.mjs",
	'steady', "$gateway->{url}/api/v1/verify", 4, $secret);

sub wait_served
{
	my ($what, @by) = @_;
	my %served;

	logged($gateway);
	wait_until("$what is served by @by", sub {
		$served{ $name_of{ $_->{server} // '' } // 'nobody' }++ foreach logged($gateway, '/api/v1/verify');
		return !grep { ($served{$_} // 0) < 20 } @by;
	});
	return join ' ', sort keys %served;
}

wait_served('load', 'standby1', 'standby2');
my @killed = processes($standbys[0], qr/./);
$standbys[0]->kill9;
wait_until('its processes have ended', sub { !grep { kill 0, $_ } @killed });
wait_seen($gateway, standby1 => 'taken out');
is(wait_served('a standby killed', 'standby2'), 'standby2', 'when a standby is killed, the other one serves');
@frozen = (postmaster($standbys[1]), processes($standbys[1], qr/./));
kill 'STOP', @frozen;
wait_seen($gateway, standby2 => 'taken out');
is(wait_served('a standby frozen', 'primary'), 'primary', 'when that is frozen, the primary');
kill 'CONT', @frozen;
$standbys[0]->start;
wait_within($standbys[0]);
wait_seen($gateway, standby1 => $well{standby1}, standby2 => $well{standby2});
wait_served('load', 'standby1', 'standby2');
pass('they serve again when they are back');
stop_process($load);
is_deeply([ keys %{ decode_json(slurp_file($load->{out})) } ], [200], 'no request has failed meanwhile');


# Failover, with standbys that may be old

set_conf($_, 'overten_auth.max_standby_lag' => 60000) foreach @standbys;
$load = start_process('failover_load', {}, 'node', "$FindBin::RealBin/../http/load.mjs",
	'steady', "$gateway->{url}/api/v1/verify", 4, $secret);
wait_served('load', 'standby1', 'standby2');
wait_replayed($primary, $_) foreach @standbys;
$primary->stop('immediate');
wait_seen($gateway, primary => 'taken out');
$response = request($gateway->{url}, 'POST', $keys, [ $ada, $json ], '{"name":"lost"}');
is(summary($response), $unavailable, 'without a primary nothing is written');
is_deeply($response->{headers}{'retry-after'}, ['1'], 'and the client may try again');
is(summary(request($gateway->{url}, 'GET', $keys, [$ada])), '200', 'reading goes on');
is(request($gateway->{url}, 'GET', '/readyz')->{body}, '{"status":"read_only"}', 'which readyz says');
$standbys[0]->promote;
wait_until('the gateway writes again',
	sub { request($gateway->{url}, 'POST', $keys, [ $ada, $json ], '{"name":"after"}')->{status} == 201 });
wait_seen($gateway, standby1 => 'a primary, on timeline 2');
($statuses, $answered) = send_all($gateway, 2, $gateway->{url}, 'POST', $keys, [ $ada, $json ], '{"name":"again"}');
is("$statuses: $answered", '201: standby1', 'the server that was promoted writes, without a word to the gateway');

# The old primary comes back as if nothing had happened.
stop_process($load);
ask($standbys[0], "SELECT overten_revoke_key('$org', '$key')");
$primary->start;
wait_seen($gateway, primary => 'a primary, on timeline 1');
like(slurp_file($gateway->{err}), qr/says that it is the primary, but another server was promoted after it/, 'an old primary is reported');
$standbys[1]->stop;
wait_seen($gateway, standby2 => 'taken out');
($statuses, $answered) = verify_at($gateway, $secret);
is("$statuses: $answered", '401: standby1', 'and not asked, as it accepts keys that were revoked since');
($statuses, $answered) = send_all($gateway, 2, $gateway->{url}, 'POST', $keys, [ $ada, $json ], '{"name":"once more"}');
is("$statuses: $answered", '201: standby1', 'nor written to');
$standbys[0]->stop;
wait_seen($gateway, standby1 => 'taken out');
is(summary(request($gateway->{url}, 'POST', $keys, [ $ada, $json ], '{"name":"x"}')), $unavailable, 'not even if it is the last');
is(summary(request($gateway->{url}, 'GET', '/api/v1/verify', [ bearer($secret) ])), $unavailable, 'of all');
my %answers = %{ decode_json(slurp_file($load->{out})) };
is(join(' ', keys %answers), '200', 'no request that reads has failed during the failover');
stop_process($gateway);
unlike(slurp_file($gateway->{out}) . slurp_file($gateway->{err}), qr/sk_live_\w|eyJ/, 'no credential is logged');
$primary->stop;
done_testing();
