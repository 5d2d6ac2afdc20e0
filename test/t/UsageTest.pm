
# What the tests of usage share: requests from an address, what the reports say of
# a key, loads of pgbench, and what the workers do.

package UsageTest;

use strict;
use warnings FATAL => 'all';

use Exporter 'import';
use IPC::Run;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

our @EXPORT = qw(REQUEST_FUNCTIONS REPORT_FUNCTIONS use_from report stat_of
  within_an_hour configure start_pgbench processed wait_for_worker);

# SQL: a request over HTTP, the address of whose client is told.
use constant REQUEST_FUNCTIONS => <<'EOQ';
CREATE FUNCTION request(secret text, headers json) RETURNS integer LANGUAGE sql AS $$
	SELECT (overten_handle_request('GET', '/api/v1/verify',
		(headers::jsonb || jsonb_build_object('authorization', 'Bearer ' || secret))::json, NULL)).status
$$;
CREATE FUNCTION request_from(secret text, addr text) RETURNS integer LANGUAGE sql AS $$
	SELECT request(secret, json_build_object('x-overten-client-addr', addr))
$$;
EOQ

# SQL: the reports in a few words, so that one line says what a key has been used
# for.
use constant REPORT_FUNCTIONS => <<'EOQ';
CREATE FUNCTION listed(org text, key text) RETURNS timestamptz LANGUAGE sql AS
	$$SELECT last_used_at FROM overten_list_keys(org) l WHERE l.key_id = key$$;
CREATE FUNCTION by_hour(org text, key text) RETURNS text LANGUAGE sql AS
	$$SELECT string_agg(accepted || '|' || refused, ', ' ORDER BY hour) FROM overten_org_usage(org, now() - interval '1 day', now()) u WHERE u.key_id = key$$;
CREATE FUNCTION by_address(org text, key text) RETURNS text LANGUAGE sql AS
	$$SELECT string_agg(concat_ws(' ', client_addr, accepted || '|' || refused), ', ') FROM overten_key_usage(org, key)$$;
CREATE FUNCTION tried(org text, key text) RETURNS bigint LANGUAGE sql AS
	$$SELECT coalesce(sum(observed), 0) FROM overten_key_anomalies(org, key) WHERE kind = 'used_after_revocation'$$;
EOQ

# Use a key some times over HTTP.
sub use_from
{
	my ($where, $secret, $addr, $times) = @_;

	return ask($where,
		"SELECT count(request_from('$secret', '$addr')) FROM generate_series(1, $times)");
}

# Everything that a reader is told of a key of an org.
sub report
{
	my ($where, $org, $key) = @_;

	return ask($where, "SELECT concat_ws('; ', by_hour('$org', '$key'),
		by_address('$org', '$key'), nullif(tried('$org', '$key'), 0))");
}

sub stat_of
{
	my ($where, $column) = @_;

	return ask($where, "SELECT $column FROM overten_stat");
}

# Run a test whose result depends on all being in one hour, once more if the hour
# has ended meanwhile.
sub within_an_hour
{
	my ($where, $test) = @_;
	my $hour;

	do
	{
		$hour = ask($where, "SELECT date_trunc('hour', clock_timestamp())");
		$test->();
	} until $hour eq
	  ask($where, "SELECT date_trunc('hour', clock_timestamp())");
	return;
}

# Set a setting in a running server.
sub configure
{
	my ($node, $name, $value) = @_;

	ask($node, "ALTER SYSTEM SET $name = '$value'");
	ask($node, 'SELECT pg_reload_conf()');
	$node->poll_query_until('postgres',
		"SELECT setting = '$value' OR current_setting('$name') = '$value'
		 FROM pg_settings WHERE name = '$name'")
	  or die "$name was not reloaded";
	return;
}

# A pgbench that goes on.
sub start_pgbench
{
	my ($node, $name, $sql, @options) = @_;
	my $file = $node->basedir . "/$name.sql";
	my %load = (name => $name, out => '', err => '');

	unlink $file;
	append_to_file($file, $sql);
	local %ENV = $node->_get_env();
	$load{run} = IPC::Run::start(
		[ 'pgbench', '-n', '-f', $file, @options, 'postgres' ],
		'>', \$load{out}, '2>', \$load{err});
	return \%load;
}

# How many transactions a pgbench has finished, whose server may have gone away.
sub processed
{
	my ($load) = @_;

	$load->{run}->finish;
	my ($count) = $load->{out} =~ /^number of transactions actually processed: (\d+)/m;
	return $count // die "pgbench: $load->{err}";
}

sub wait_for_worker
{
	my ($node, $state) = @_;

	$node->poll_query_until('postgres',
		"SELECT usage_worker = '$state' FROM overten_status()")
	  or die "no usage worker is $state";
	return;
}

1;
