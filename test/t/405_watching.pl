
# Watching: the queries for postgres_exporter, the alert rules and the Grafana
# dashboard of contrib/, by Prometheus and postgres_exporter themselves.  The server,
# a standby and a gateway are brought into each state that a rule is about: before
# that it finds nothing, and then it does.  pg_regress has none of these programs.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use GatewayTest;
use IPC::Run;
use JSON::PP qw(decode_json);
use MonitoringTest;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use StandbyTest;
use Test::More;
use WholeSurface;

my $top = "$FindBin::RealBin/../..";
my $dir = PostgreSQL::Test::Utils::tempdir;

my $node = create_primary('watched', 1000, surface_settings('postgres') . <<"EOC");
overten_auth.flush_interval = 1s
overten_auth.max_tracked_keys = 40
overten_auth.max_limit_buckets = 4
overten_auth.master_key_file = '$dir/master.key'
EOC
ask($node, 'SELECT overten_refresh_signing_keys()');
ask($node, slurp_file("$top/gateway/roles.sql"));
ask($node, monitoring_role());
my $org = create_org($node, 'Watched');
my ($secret, $key) = mint($node, $org);
my ($revoked, $revoked_key) = mint($node, $org);
$node->backup('base');
my $standby = create_standby($node, 'base', 'standby');
wait_within($standby);

sub reload
{
	my ($setting) = @_;

	$node->append_conf('postgresql.conf', $setting);
	$node->reload;
	return;
}


# What can be said without a server

my ($stdout, $stderr);
ok(IPC::Run::run([ 'promtool', 'check', 'config', "$top/contrib/prometheus.yml" ], '>', \$stdout, '2>', \$stderr),
	'promtool accepts the configuration and the rules') or diag($stdout . $stderr);
ok(IPC::Run::run([ 'promtool', 'test', 'rules', "$top/test/monitoring/alerts_test.yml" ], '>', \$stdout, '2>', \$stderr),
	'and the rules fire and do not fire as their tests say') or diag($stdout . $stderr);


# All is well

my @settings = (METRICS_LISTEN => '127.0.0.1:0', POOL_SIZE => 1,
	map { $_ => 1000 * $PostgreSQL::Test::Utils::timeout_default } qw(CONNECT_TIMEOUT_MS QUERY_TIMEOUT_MS));
my $gateway = start_gateway($node, 'gateway', @settings);
# This one has a pool for each of two servers, and asks only one of them.
my $choosy = start_gateway($node, 'choosy', @settings, PGTARGETSESSIONATTRS => 'primary',
	PGHOST => $node->host . ',' . $standby->host, PGPORT => $node->port . ',' . $standby->port);
ask($node, 'ALTER ROLE overten_gateway SET statement_timeout = 0');
my @exporters = map { start_exporter($_) } $node, $standby;
my $prometheus = start_prometheus([ $gateway->{metrics_port}, $choosy->{metrics_port} ], [ map { $_->{port} } @exporters ]);

request($gateway->{url}, 'GET', '/api/v1/verify', ["Authorization: Bearer $secret"]) foreach 1 .. 5;
flush_usage($node);
wait_until('all is scraped', sub {
	return found($prometheus, 'up == 1') == 4 && found($prometheus, 'overten_status_standby') == 2
	  && found($prometheus, 'overten_anomalies_keys') == 10
	  && found($prometheus, 'overten_gateway_requests_total{status="200"}');
});
is(found($prometheus, 'pg_exporter_last_scrape_error == 0'), 2, 'each query runs as the role that docs/operations.md makes');
my %rules = rules($prometheus);
wait_until('nothing passes any more', sub { !found($prometheus, 'changes(overten_status_standby_beyond_bound[5s]) > 0') });
quiet($prometheus, $_, 'all is well') foreach sort keys %rules;

# The columns of the view, but for what the metrics of overten_status say.
is( join(' ', sort map { s/_total$//r } map { /^overten_stat_(?!since)(\w+)/ } names($prometheus)),
	ask($node, q{SELECT string_agg(attname, ' ' ORDER BY attname COLLATE "C") FROM pg_attribute
		WHERE attrelid = 'overten_stat'::regclass AND attnum > 0
		AND attname NOT IN ('since', 'last_fetch_at', 'last_fetch_outcome', 'standby_age', 'standby_bound')}),
	'every counter of overten_stat is exported');
my $accepted = ask($node, 'SELECT accepted FROM overten_stat');
wait_until('the count is scraped', sub { found($prometheus, qq(overten_stat_accepted_total{instance="$exporters[0]{instance}"} == $accepted)) });
pass('with its value');


# Each state

fires($prometheus, 'OvertenUnwatched', 'a query may not run', sub {
	ask($node, 'REVOKE EXECUTE ON FUNCTION overten_status() FROM monitoring');
});
quiet($prometheus, 'OvertenUnwatched', 'it may again', sub {
	ask($node, 'GRANT EXECUTE ON FUNCTION overten_status() TO monitoring');
});
fires($prometheus, 'OvertenUnwatched', 'nor may one that is asked seldom', sub {
	ask($node, 'REVOKE EXECUTE ON FUNCTION overten_all_anomalies() FROM monitoring');
});
quiet($prometheus, 'OvertenUnwatched', 'which may again, too', sub {
	ask($node, 'GRANT EXECUTE ON FUNCTION overten_all_anomalies() TO monitoring');
});

fires($prometheus, 'OvertenWeakOwner', 'a role can create functions beside those of the extension', sub {
	ask($node, 'CREATE ROLE weak; GRANT CREATE ON SCHEMA public TO weak');
});
quiet($prometheus, 'OvertenDanger', 'that is of another kind');
ask($node, 'REVOKE CREATE ON SCHEMA public FROM weak');
quiet($prometheus, 'OvertenWeakOwner', 'it cannot');
fires($prometheus, 'OvertenWeakOwner', 'a role owns a schema of the extension', sub {
	ask($node, 'ALTER SCHEMA overten_auth OWNER TO weak');
});
ask($node, 'ALTER SCHEMA overten_auth OWNER TO CURRENT_USER');

fires($prometheus, 'OvertenUsedAfterRevocation', 'a revoked key is tried', sub {
	ask($node, "SELECT overten_revoke_key('$org', '$revoked_key')");
	ask($node, "SELECT count(*) FROM generate_series(1, 30) n, LATERAL overten_verify_key(left('$revoked', n + 1000))");
	flush_usage($node);
});

fires($prometheus, 'OvertenAnomaly', 'a key wakes up', sub {
	ask($node, "INSERT INTO overten_auth.key_usage VALUES ('$key', date_trunc('hour', now() - interval '40 days', 'UTC'), '192.0.2.1', 1, 0,
		now() - interval '40 days', now() - interval '40 days')");
});

# Uses that cannot be written.
my @secrets = map { (mint($node, $org))[0] } 1 .. 60;
ask($node, 'ALTER TABLE overten_auth.key_usage ADD CONSTRAINT none CHECK (accepted = 0) NOT VALID');
is_accepted($node, $secret);
fires($prometheus, 'OvertenFlushFailing', 'flushes fail');
quiet($prometheus, 'OvertenJobFailing', 'which is said once');
fires($prometheus, 'OvertenWarning', 'a constraint that is not the extension\'s');
fires($prometheus, 'OvertenFlushLate', 'flushes fail for some time');
quiet($prometheus, 'OvertenCountersFull', 'there is room');
fires($prometheus, 'OvertenCountersFull', 'three quarters are in use', sub { is_accepted($node, $_) foreach @secrets[0 .. 32] });
is(found($prometheus, 'overten_stat_not_attributed_total > 0'), 0, 'but no use is lost');
is_accepted($node, $_) foreach @secrets;
wait_until('a use is', sub { found($prometheus, 'increase(overten_stat_not_attributed_total[15m]) > 0') });
ask($node, 'ALTER TABLE overten_auth.key_usage DROP CONSTRAINT none');
flush_usage($node);
quiet($prometheus, $_, 'flushes succeed') foreach 'OvertenFlushFailing', 'OvertenFlushLate';
fires($prometheus, 'OvertenJobFailing', 'they have failed');

fires($prometheus, 'OvertenLimitsFull', 'there are more limits than buckets', sub {
	ask($node, "SELECT overten_set_limit('key', key_id, 'daily', 1, '12 hours') FROM overten_auth.api_keys WHERE org_id = '$org' AND revoked_at IS NULL");
	sqlstate_of($node, "SELECT overten_admit('$_')") foreach @secrets[0 .. 8];
});

# Signing keys.
fires($prometheus, 'OvertenSigningKeysNotFetched', 'a fetch fails', sub {
	reload(q{overten_auth.signing_keys_command = 'exit 7'});
	wait_until('it fails', sub { sqlstate_of($node, 'SELECT overten_refresh_signing_keys()') eq '55000' });
});
quiet($prometheus, 'OvertenSigningKeysEnd', 'the keys are good for long');
fires($prometheus, 'OvertenSigningKeysEnd', 'they end soon', sub {
	ask($node, q{UPDATE overten_auth.signing_keys SET expires_at = now() + interval '5 hours'});
});
fires($prometheus, 'OvertenSigningKeysEnd', 'there are none', sub { ask($node, 'DELETE FROM overten_auth.signing_keys') });

# Master keys.
fires($prometheus, 'OvertenMasterKeyAtRisk', 'the file is in the data directory', sub {
	my $file = $node->data_dir . '/overten_auth.key';
	append_to_file($file, slurp_file("$dir/master.key"));
	chmod 0600, $file;
	reload(q{overten_auth.master_key_file = 'overten_auth.key'});
});
quiet($prometheus, 'OvertenMasterKeyMissing', 'it is there');
fires($prometheus, 'OvertenMasterKeyMissing', 'it is not', sub { reload(q{overten_auth.master_key_file = 'nowhere'}) });
reload("overten_auth.master_key_file = '$dir/master.key'");

quiet($prometheus, 'OvertenDanger', 'nothing is dangerous');
fires($prometheus, 'OvertenRevocationUnprotected', 'revocations are not protected', sub { reload('overten_auth.revocation_commit = on') });
fires($prometheus, 'OvertenDanger', 'which is dangerous');
reload('overten_auth.revocation_commit = off');

fires($prometheus, 'OvertenStandbyBeyondBound', 'replay is paused', sub {
	pause_replay($standby);
	ask($node, 'CREATE TABLE more ()');
});
resume_replay($standby);
quiet($prometheus, 'OvertenStandbyBeyondBound', 'it goes on');


# The gateway

my $ada = 'Authorization: Bearer ' . surface_token('ada');
ask($node, q{SELECT overten_load_signing_keys($doc$} . surface_document('key-1') . '$doc$)');
ask($node, "SELECT overten_set_api_access('$org', true), overten_add_member('$org', 'ada')");
# A series has to be there before it can be seen to rise.
my $keys = "/api/v1/organizations/$org/api-keys";
my @headers = ($ada, 'Content-Type: application/json');
is(request($_->{url}, 'POST', $keys, \@headers, '{"name": "more"}')->{status}, 201, "a key is minted by $_->{name}") foreach $gateway, $choosy;
wait_until('a fast request is seen', sub { found($prometheus, 'overten_gateway_requests_total{method="POST", status="201"} == 1') == 2 });
my $locker = $node->background_psql('postgres');
$locker->query_safe('BEGIN; LOCK TABLE overten_auth.orgs');
my @curls = map {
	start_process("waiting_$_", {}, 'curl', '--silent', '--noproxy', '*', (map { ('--header', $_) } @headers),
		'--data-binary', '{"name": "more"}', "$choosy->{url}$keys")
} 1 .. 5;
fires($prometheus, 'OvertenGatewayPoolBusy', 'requests wait for a lock');
my $primary = $node->host . ':' . $node->port;
is(found($prometheus, $rules{OvertenGatewayPoolBusy}), 1, 'for the one server that is asked');
is(found($prometheus, qq(overten_gateway_pool_waiting{server="$primary"} > 0)), 1, 'which has a name');
sleep 2;    # the only way to be slow
$locker->query_safe('ROLLBACK');
$locker->quit;
stop_process($_) foreach @curls;
fires($prometheus, 'OvertenGatewaySlow', 'they have waited');
quiet($prometheus, 'OvertenGatewayPoolBusy', 'they wait no more');

quiet($prometheus, $_, 'nothing has failed') foreach 'OvertenGatewayErrors', 'OvertenGatewayDatabaseErrors';
ask($node, 'REVOKE EXECUTE ON FUNCTION overten_handle_request(text, text, json, bytea) FROM overten_gateway');
request($gateway->{url}, 'GET', '/api/v1/verify', ["Authorization: Bearer $secret"]);
wait_until('one error is seen', sub { found($prometheus, 'overten_gateway_database_errors_total{class="42"}') });
request($gateway->{url}, 'GET', '/api/v1/verify', ["Authorization: Bearer $secret"]) foreach 1 .. 19;
fires($prometheus, 'OvertenGatewayErrors', 'the gateway may not call the function');
fires($prometheus, 'OvertenGatewayDatabaseErrors', 'which is an error of the database');
wait_until('all are counted', sub { found($prometheus, 'overten_gateway_database_errors_total{class="42"} == 20') });
pass('of its class');


# The dashboard, and what is left

foreach my $panel (grep { $_->{type} ne 'row' } @{ decode_json(slurp_file("$top/contrib/grafana.json"))->{panels} })
{
	foreach my $target (@{ $panel->{targets} })
	{
		my $expression = $target->{expr} =~ s/\$__rate_interval/10m/gr;

		cmp_ok(found($prometheus, $expression), '>', 0, "$panel->{title}: $target->{legendFormat}");
	}
}
my %names = map { $_ => 1 } names($prometheus);
is(join(' ', grep { !$names{$_} } map { metrics_of($_) } values %rules), '', 'the rules name metrics that exist');

stop_process($_) foreach $gateway, $choosy;
fires($prometheus, 'OvertenGatewayDown', 'the gateway is stopped');
stop_process($exporters[1]);
fires($prometheus, 'OvertenUnwatched', 'an exporter is stopped');
is(join(' ', grep { !fired($_) } sort keys %rules), '', 'each rule was seen to fire');

my $alerts_test = slurp_file("$top/test/monitoring/alerts_test.yml");
is(join(' ', grep { $alerts_test !~ /alertname="$_"/ } sort keys %rules), '', 'and has its test for promtool');
is(join(' ', grep { index(slurp_file("$top/docs/monitoring.md"), "`$_`") < 0 } sort keys %rules), '', 'and is in docs/monitoring.md');

done_testing();
