
# What is counted in shared memory is in lists and reports at once, whatever
# snapshot the reader has, and in none before its key is committed.  pg_regress has
# no preloaded library.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use FirebaseTokens;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use UsageTest;

my $node = create_node(
	'unflushed', <<"EOC");
shared_preload_libraries = 'overten_auth'
overten_auth.databases = 'postgres'
overten_auth.flush_interval = 1h
overten_auth.firebase_project_id = '${\PROJECT}'
overten_auth.signing_keys_command = ''
EOC
my $caller = $node->background_psql('postgres');
my $reader = $node->background_psql('postgres');
$_->set_query_timer_restart foreach $caller, $reader;
my $org = create_org($caller, 'Curious');
ask($caller, REQUEST_FUNCTIONS . REPORT_FUNCTIONS);


# At once, in another session

my ($secret, $key);
within_an_hour(
	$caller,
	sub {
		($secret, $key) = mint($caller, $org);
		is(ask($reader, "SELECT listed('$org', '$key')"), '', 'a new key has not been used');
		is(report($reader, $org, $key), '', 'and has no history');
		my $before = ask($caller, 'SELECT clock_timestamp()');
		my $unused = "SELECT count(*) FROM overten_find_keys('$org', unused_since => '$before')";
		is(ask($reader, $unused), 1, 'and is found as unused');
		use_from($caller, $secret, '192.0.2.1', 3);
		is(ask($reader, $unused), 0, 'a use counts for that before any flush');
		use_from($caller, $secret, '2001:db8::1', 1);
		verify($caller, $secret);
		is( ask($reader, "SELECT listed('$org', '$key') BETWEEN '$before' AND clock_timestamp()"),
			't', 'its use shows in the list before any flush');
		is( ask($reader, "SELECT last_used_at = listed('$org', '$key') FROM overten_find_keys('$org')"),
			't', 'and in the pages of the list');
		is( ask($reader, "SELECT count(*) FROM overten_find_keys('$org', unused_since => listed('$org', '$key'))"),
			0, 'which is itself a time of use');
		is(report($reader, $org, $key), '5|0; 192.0.2.1 3|0, 2001:db8::/64 1|0, 1|0',
			'and in the history, with its addresses');
		flush_usage($caller);
		is(report($reader, $org, $key), '5|0; 192.0.2.1 3|0, 2001:db8::/64 1|0, 1|0', 'after a flush it is the same');
		use_from($caller, $secret, '192.0.2.1', 2);
		use_from($caller, $secret, '192.0.2.9', 1);
		is(report($reader, $org, $key), '8|0; 192.0.2.1 5|0, 192.0.2.9 1|0, 2001:db8::/64 1|0, 1|0',
			'what comes then is added to the rows');
	});
is( ask($reader, "SELECT count(*) FROM overten_key_usage('$org', '$key', now() - interval '1 day', date_trunc('hour', now(), 'UTC'))"),
	0, 'but not to a period that it is not in');
is( ask($reader, "SELECT count(*) FROM overten_org_usage('$org', now() - interval '1 day', date_trunc('hour', now(), 'UTC'))"),
	0, 'nor is the sum');
ask($caller, "INSERT INTO overten_auth.key_usage
	SELECT '$key', date_trunc('hour', now(), 'UTC') - n * interval '1 hour', '192.0.2.1', 10, 0, now() - n * interval '1 hour', now() - n * interval '1 hour'
	FROM generate_series(1, 3) n");
is( ask($reader, "SELECT count(DISTINCT hour) || ' ' || (array_agg(hour) = array_agg(hour ORDER BY hour, client_addr)) || ' ' || sum(accepted)
		FROM overten_key_usage('$org', '$key')"),
	'4 true 38', 'all hours are there, in order');

# Attempts with a revoked key
my ($revoked, $revoked_key) = mint($caller, $org);
verify($caller, $revoked);
ask($caller, "SELECT overten_revoke_key('$org', '$revoked_key')");
my $last_used = ask($reader, "SELECT listed('$org', '$revoked_key')");
verify($caller, $revoked) foreach 1 .. 2;
is(report($reader, $org, $revoked_key), '1|2; 1|2; 2', 'attempts with a revoked key show at once, as an anomaly too');
is(ask($reader, "SELECT listed('$org', '$revoked_key')"), $last_used, 'and are no uses');

# The anomalies of uses that are not flushed
my ($odd, $odd_key) = mint($caller, $org);
ask($caller, "INSERT INTO overten_auth.key_usage
	SELECT '$odd_key', date_trunc('hour', now(), 'UTC') - n * interval '1 hour', '192.0.2.1', 1, 0, now() - n * interval '1 hour', now() - n * interval '1 hour'
	FROM generate_series(30, 40) n");
use_from($caller, $odd, '192.0.2.7', 70);
use_from($caller, $odd, '192.0.2.8', 50);
my $anomalies = "SELECT string_agg(concat_ws(' ', kind, client_addr, observed), ', ' ORDER BY kind, client_addr)
	FROM overten_key_anomalies('$org', '$odd_key')";
my $found = 'new_address 192.0.2.7 70, new_address 192.0.2.8 50, rise 192.0.2.7 120';
within_an_hour($caller, sub { is(ask($reader, $anomalies), $found, 'a rise and new addresses are found at once'); });
flush_usage($caller);
is(ask($reader, $anomalies), $found, 'and after a flush');
use_from($caller, $odd, '192.0.2.8', 25);
is(ask($reader, $anomalies), 'new_address 192.0.2.7 70, new_address 192.0.2.8 75, rise 192.0.2.8 145',
	'half in the tables, half in memory, they are the same');

# Over HTTP
ask($caller, <<'EOQ');
CREATE FUNCTION body_of(path text, token text) RETURNS json LANGUAGE sql AS $$
	SELECT body::json FROM overten_handle_request('GET', '/api/v1' || path, json_build_object('authorization', 'Bearer ' || token), NULL)
$$;
EOQ
my $signer = new_rsa();
ask($caller, "SELECT overten_load_signing_keys('" . jwk_set(jwk($signer, 'key-1')) . "')");
ask($caller, "SELECT overten_add_member('$org', 'jane')");
my $token = token($signer, header(), claims(sub => 'jane'));
my ($fresh, $fresh_key) = mint($caller, $org);
use_from($caller, $fresh, '192.0.2.1', 2);
is( ask($reader, "SELECT i ->> 'last_used_at' IS NOT NULL
		FROM json_array_elements(body_of('/organizations/$org/api-keys', '$token') -> 'items') i WHERE i ->> 'key_id' = '$fresh_key'"),
	't', 'the list over HTTP has the last use at once');
is( ask($reader, "SELECT string_agg(concat_ws(' ', i ->> 'client_addr', i ->> 'accepted'), ', ')
		FROM json_array_elements(body_of('/organizations/$org/api-keys/$fresh_key/usage', '$token') -> 'items') i"),
	'192.0.2.1 2', 'so has the usage endpoint');
my $of_fresh = "SELECT concat_ws(' ', i ->> 'accepted', i ->> 'addresses')
	FROM json_array_elements(body_of('/organizations/$org/usage?by=key', '$token') -> 'items') i WHERE i ->> 'key_id' = '$fresh_key'";
is(ask($reader, $of_fresh), '2 1', 'and the usage of the org, with the address');
flush_usage($caller);
use_from($caller, $fresh, '192.0.2.1', 1);
use_from($caller, $fresh, '192.0.2.2', 1);
is(ask($reader, $of_fresh), '4 2', 'an address that is in the tables and in memory counts once');

# Snapshots that are older
my ($watched, $watched_key) = mint($caller, $org);
foreach my $level ('REPEATABLE READ', 'SERIALIZABLE', 'REPEATABLE READ READ ONLY')
{
	my $sum = "SELECT coalesce(sum(accepted), 0), listed('$org', '$watched_key') IS NOT NULL FROM overten_key_usage('$org', '$watched_key')";

	ask($reader, "BEGIN ISOLATION LEVEL $level");
	my ($n) = split /\|/, ask($reader, $sum);
	verify($caller, $watched);
	is(ask($reader, $sum), $n + 1 . '|t', "$level sees a use that is not flushed");
	flush_usage($caller);
	is(ask($reader, $sum), $n + 1 . '|t', "$level sees it once it is");
	verify($caller, $watched);
	is(ask($reader, $sum), $n + 2 . '|t', "$level sees the next");
	ask($reader, 'COMMIT');
}

# Keys that are not committed
my $minter = $node->background_psql('postgres');
my $shown = "SELECT count(*) FROM overten_list_keys('$org')";
my $summed = "SELECT count(DISTINCT key_id) FROM overten_org_usage('$org', now() - interval '1 day', now())";
my @before = map { ask($reader, $_) } $shown, $summed;
ask($minter, 'BEGIN');
my ($unborn, $unborn_key) = mint($minter, $org);
verify($minter, $unborn) foreach 1 .. 3;
is(ask($minter, "SELECT by_hour('$org', '$unborn_key')"), '3|0', 'who mints a key sees its uses');
is_deeply([ map { ask($reader, $_) } $shown, $summed ], \@before, 'others do not see it before the commit');
is(sqlstate_of($node, "SELECT overten_key_usage('$org', '$unborn_key')"), '42704', 'nor its history');
flush_usage($caller);
ask($minter, 'COMMIT');
is(ask($reader, "SELECT by_hour('$org', '$unborn_key')"), '3|0', 'after it they see all of its uses');
ask($minter, 'BEGIN');
my ($stillborn) = mint($minter, $org);
verify($minter, $stillborn);
ask($minter, 'ROLLBACK');
is(ask($reader, $shown), $before[0] + 1, 'a key that was rolled back is not seen');
is(ask($reader, $summed), $before[1] + 1, 'nor its uses');

$_->quit foreach $caller, $reader, $minter;
$node->stop;
done_testing();
