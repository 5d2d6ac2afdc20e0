#!/usr/bin/perl
#
# failovers.pl
#
# Real failovers of a cluster with the configuration of contrib/, while clients mint,
# revoke and verify through HAProxy.  Their journals are outside of the servers: a key
# whose revocation was acknowledged must not be accepted again.  The last round, with
# overten_auth.revocation_commit off, is the control, in which some are.  Called by
# "make test-cluster" under with-temp-install; prints its progress and its figures.
#
# CLUSTER_SEED is the random seed.  CLUSTER_ROUNDS names other rounds than all:
# "postgres" kills the leader's PostgreSQL, "server" also its Patroni, "frozen" freezes
# both, and "control" is the control, which must be the last.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin, "$FindBin::RealBin/../faults";
use Clients;
use List::Util qw(first);
use PatroniCluster;
use Processes;
use Test::More;
use Time::HiRes qw(time usleep);

my $standby_bound = 1000;    # max_standby_lag in contrib/patroni.yml, in ms
my $still = 0.3;             # seconds without replication before a crash
my $top = "$FindBin::RealBin/../..";
my $dir = "$ENV{SCRATCH}/cluster";
my $start = time;
my (@rows, @figures, $sealed, $standbys);

# Nothing here reaches another machine.
delete @ENV{qw(http_proxy https_proxy all_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY)};
$SIG{$_} = sub { die "interrupted\n" } foreach 'INT', 'TERM';
$SIG{PIPE} = 'IGNORE';
my $seed = int($ENV{CLUSTER_SEED} || time % 1_000_000);
srand $seed;
mkdir $dir or die "$dir: $!\n";

sub progress
{
	my ($text) = @_;

	printf "# %5.1f s  %s\n", time - $start, $text;
	return;
}

my $main = $$;
my ($bindir) = output_of("$dir/setup.log", $ENV{PG_CONFIG}, '--bindir');
$ENV{PATH} = "$bindir:$ENV{PATH}";
my $cluster = PatroniCluster->new(dir => $dir, contrib => "$top/contrib", bindir => $bindir);
my $clients;

END
{
	if ($$ == $main)
	{
		my $status = $?;

		local @SIG{ 'INT', 'TERM' } = ('IGNORE') x 2;
		$clients->end_all if $clients;
		$cluster->end_all if $cluster;
		$? = $status;
	}
}

# What is asked of the servers

sub webhook_secret
{
	my ($where, $secret) = @_;
	my ($answer, $status) = $cluster->try_sql($where, "SELECT webhook_secret FROM overten_verify_key('$secret')");

	return $status == 0 ? $answer : 'an error';
}

sub mint
{
	my ($where, $org) = @_;

	return split /\|/, $cluster->sql($where, "SELECT secret, key_id FROM overten_mint_key('$org')");
}

# Is a key accepted?  A standby that has just begun to follow its leader may raise
# 55000 at first.
sub is_accepted
{
	my ($where, $secret) = @_;
	my ($accepted, $status);

	wait_for('a verification is answered', 30, sub {
		($accepted, $status) = $cluster->try_sql($where, "SELECT count(*) FROM overten_verify_key('$secret')");
		return $status == 0;
	});
	return $accepted;
}

# The cluster

sub set_up
{
	progress("seed $seed (CLUSTER_SEED); starting etcd, three servers and HAProxy");
	$clients = Clients->new(cluster => $cluster, dir => $dir, top => $top, seed => $seed, bound => $standby_bound);
	$cluster->start_etcd;
	foreach my $node ($cluster->nodes)
	{
		$cluster->configure($node, 'overten_auth.signing_keys_command' => 'curl --silent --include ' . $clients->keys_url);
		is($cluster->invalid_configuration($node), '', "Patroni takes the configuration of $node->{name}");
		$cluster->start_patroni($node);
	}
	$cluster->start_haproxy;
	my $leader = $cluster->wait_complete(2, 120);
	wait_for('HAProxy leads to the leader', 20, sub { return ($cluster->try_sql('primary', 'SELECT', 'postgres'))[1] == 0 });

	progress("$leader->{name} leads; making the database");
	$cluster->sql('primary', 'CREATE DATABASE app', 'postgres');
	# Names that save_audit_log must not take for options
	$cluster->sql('primary', qq{CREATE DATABASE "$_"}, 'postgres') foreach '-cshared_preload_libraries=/tmp/e', '-rFILE', 'a\\b', "it's a new\nline";
	$cluster->sql('primary', 'CREATE EXTENSION overten_auth CASCADE');
	my (undef, $status) = output_of($cluster->log_of('psql'), 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', $cluster->place('primary'), '-f', "$top/gateway/roles.sql");
	is($status, 0, 'the roles are made');
	$cluster->sql('primary', <<"EOQ");
ALTER ROLE overten_gateway PASSWORD '$cluster->{password}{gateway}';
ALTER DATABASE app SET overten_auth.max_keys_per_org = 1000000;
ALTER DATABASE app SET overten_auth.max_keys_total_per_org = 1000000
EOQ
	return $leader;
}

# The first sealing makes the file of the master key on the leader; the operator copies
# it to the others.
sub seal
{
	my ($leader) = @_;
	my $org = $cluster->sql('primary', q{SELECT org_id FROM overten_create_org('Sealed')});
	my ($secret) = mint('primary', $org);
	my $key = slurp_file("$leader->{dir}/secret/master.key");

	spit_file("$_->{dir}/secret/master.key", $key, 0600) foreach $cluster->nodes;
	my $opened = webhook_secret('primary', $secret);
	like($opened, qr/^whsec_/, 'a webhook secret is sealed');
	return { org => $org, secret => $secret, opened => $opened, key => $key };
}

# A round: some load, a fault, the first answers after it, the return of the leader of
# before, and a check of everything.

# Check everything with all servers in place.  %how: control, in which revocations
# must be lost.
sub check_all
{
	my ($name, %how) = @_;

	$clients->tell('stop');
	my $leader = $cluster->wait_complete(2, 120);
	my $checked = $clients->tell('check after failover');
	my $counts = $clients->tell('counts');
	my $api = $clients->tell_http('check');
	if ($how{control})
	{
		cmp_ok($checked->{lost_revocations}, '>', 0, "$name: $checked->{lost_revocations} revoked keys are alive again");
	}
	else
	{
		is($checked->{lost_revocations}, 0, "$name: of $counts->{revocations} acknowledged revocations none is lost");
		is($checked->{wrong}, 0, "$name: and nothing else is wrong with $checked->{keys} keys and $checked->{counted} uses");
		$standbys = $counts;
		is($counts->{late}, 0, "$name: no standby has accepted a key later than $standby_bound ms after its revocation");
	}
	is("$api->{alive} $api->{wrong}", '0 0', "$name: of $api->{revoked} keys revoked over HTTP none is accepted");
	is($cluster->sql('primary', 'SELECT overten_refresh_signing_keys()') =~ /\A\d*\z/ ? 'yes' : 'no', 'yes', "$name: the workers fetch signing keys");
	is($cluster->sql('primary', 'SELECT count(*) FROM overten_check() WHERE severity <> \'notice\''), 0, "$name: overten_check() finds nothing");
	foreach my $node ($cluster->nodes)
	{
		is(slurp_file("$node->{dir}/secret/master.key"), $sealed->{key}, "$name: $node->{name} has the master key");
		ok(eval { wait_for('it opens', 30, sub { webhook_secret($node, $sealed->{secret}) eq $sealed->{opened} }) },
			"$name: $node->{name} verifies, and opens what was sealed before");
	}
	return ($leader, $checked, $counts, $api);
}

sub add_row
{
	my ($name, $first, $back, $checked, $counts, $api) = @_;

	push @rows, [ $name, @$first{ 'mint', 'revoke', 'verify' }, sprintf('%.1f', $api->{longest_ms} / 1000), $back,
		$counts->{revocations} + $api->{revoked}, $checked->{lost_revocations} + $api->{alive}, "$checked->{lost} of $checked->{accepted}" ];
	return;
}

# Kill a leader's PostgreSQL alone: Patroni starts it again.
sub kill_postgres
{
	my ($name) = @_;
	my $leader = $cluster->leader;

	$clients->start_load;
	usleep(4_000_000);
	progress("$name on $leader->{name}");
	$cluster->crash($leader, postgres_only => 1);
	my $since = $clients->stamp;
	my %first = $clients->first_answers($since);
	$cluster->wait_complete(2, 120);
	my $back = $clients->seconds_since($since);
	progress("the first answers after $first{mint} s (mint), $first{revoke} s (revoke), $first{verify} s (verify)");
	add_row($name, \%first, $back, (check_all($name))[1 .. 3]);
	return;
}

# Kill a leader with its Patroni, once nothing has been replicated for a moment: what
# was acknowledged then would be lost if it did not wait.
sub kill_server
{
	my ($name, %how) = @_;
	my $leader = $cluster->leader;

	$clients->start_load;
	usleep(4_000_000);
	progress("$name on $leader->{name}");
	my @receivers = map { $cluster->sql($_, 'SELECT pid FROM pg_stat_wal_receiver') } grep { $_ != $leader } $cluster->nodes;
	signal_all('STOP', @receivers);
	usleep(1e6 * $still);
	$cluster->crash($leader);

	# They must not read what the connection has for them yet.
	signal_all('TERM', @receivers);
	signal_all('CONT', @receivers);
	my $since = $clients->stamp;
	my %first = $clients->first_answers($since);
	my $next = $cluster->leader($leader);
	isnt($next, undef, "$name: another server leads");
	progress("$next->{name} leads; the first answers after $first{mint} s (mint), $first{revoke} s (revoke), $first{verify} s (verify)");
	my $restarted = $clients->stamp;
	$cluster->start_patroni($leader);
	$cluster->wait_complete(2, 120);
	my $back = $clients->seconds_since($restarted);
	progress("$leader->{name} follows $back s after its start");
	add_row($name, \%first, $back, (check_all($name, %how))[1 .. 3]);
	return;
}

# What the audit log that was saved on a former leader has and that of its leader lacks,
# as docs/scaling.md has operators ask.
sub lost_changes
{
	my ($node) = @_;
	my $saved = (sort glob "$node->{dir}/saved/app-*.csv.gz")[-1] // return 'nothing was saved';

	spit_file("$dir/saved.sql", <<"EOQ");
CREATE TEMPORARY TABLE saved (LIKE overten_auth.audit_log);
\\copy saved FROM PROGRAM 'gzip -dc $saved' CSV HEADER
SELECT s.action, s.key_id FROM saved s
WHERE NOT EXISTS (SELECT FROM overten_auth.audit_log a WHERE a.audit_id = s.audit_id) ORDER BY s.at;
EOQ
	return (output_of($cluster->log_of('psql'), 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $cluster->place('primary'), '-f', "$dir/saved.sql"))[0];
}

# Freeze a leader as a whole, then thaw its PostgreSQL while Patroni still hangs, which
# is what a watchdog is for, and then Patroni.
sub freeze_server
{
	my ($name) = @_;
	my $leader = $cluster->leader;
	my @keys = map { [ mint('primary', $sealed->{org}) ] } 1 .. 11;
	my $apart = pop @keys;
	my %roles = $cluster->roles;
	my $standby = first { $roles{ $_->{name} } eq 'replica' } $cluster->nodes;

	$clients->start_load;
	usleep(4_000_000);
	progress("$name: $leader->{name}");
	my @postgres = $cluster->processes_of($leader, postgres_only => 1);
	my @patroni = family($cluster->{pid}{ $leader->{name} });
	signal_all('STOP', @patroni, @postgres);
	my $since = $clients->stamp;

	# A standby that hears nothing of its primary
	my ($beyond, $within);
	wait_for("$standby->{name} is beyond its bound", 30, sub { return webhook_secret($standby, $sealed->{secret}) eq 'an error' });
	$beyond = $clients->seconds_since($since);
	cmp_ok($beyond, '<', 10, sprintf "$name: $standby->{name} does not verify any more after %.1f s", $beyond);
	my %first = $clients->first_answers($since);
	wait_for("$standby->{name} is within its bound", 60, sub { return webhook_secret($standby, $sealed->{secret}) eq $sealed->{opened} });
	$within = $clients->seconds_since($since);
	progress(sprintf "the first answers after $first{mint} s (mint), $first{revoke} s (revoke), $first{verify} s (verify); $standby->{name} verifies again after %.1f s", $within);
	my $next = $cluster->leader($leader);
	isnt($next, undef, "$name: another server leads");
	push @figures, sprintf 'Frozen leader: another standby (max_standby_lag = 1s) raised 55000 after %.1f s at the latest, and verified again after %.1f s.', $beyond, $within;

	# The gap
	$cluster->sql('primary', "SELECT overten_revoke_key('$sealed->{org}', '$_->[1]')") foreach @keys;
	signal_all('CONT', reverse @postgres);
	my $accepted = grep { is_accepted($leader, $_->[0]) } @keys;
	my (undef, $minted) = $cluster->try_sql($leader, "SET synchronous_commit = local; SELECT FROM overten_mint_key('$sealed->{org}', 'apart')");
	start_program('psql', $cluster->log_of('apart'), [ 'psql', '-XAtq', '-d', $cluster->place($leader),
		'-c', "SELECT overten_revoke_key('$sealed->{org}', '$apart->[1]')" ]);
	wait_for('a revocation on the leader of before waits', 20, sub {
		return $cluster->sql($leader, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query ~ '$apart->[1]'") == 1;
	});
	is(scalar(grep { is_accepted('primary', $_->[0]) } @keys), 0, "$name: HAProxy leads to the new leader, which accepts none of the keys revoked there");
	push @figures, "Frozen leader without a watchdog, PostgreSQL thawed and Patroni still hung: reached directly, it accepted $accepted of "
	  . @keys . ' keys that were revoked on the new leader, and ' . ($minted == 0 ? 'minted' : 'did not mint')
	  . '; a revocation there was not acknowledged.';
	progress($figures[-1]);

	# Its return
	my $thawed = $clients->stamp;
	signal_all('CONT', @patroni);
	$cluster->wait_complete(2, 120);
	my $back = $clients->seconds_since($thawed);
	unlike(slurp_file($cluster->log_of('apart')), qr/^t$/m, "$name: the revocation there was never acknowledged");
	is(is_accepted('primary', $apart->[0]), 1, "$name: and is lost, as was to be expected");
	like(lost_changes($leader), qr/^revoke_key\|$apart->[1]$/m, "$name: but the audit log that was saved before pg_rewind has it");
	is(scalar(grep { is_accepted($leader, $_->[0]) } @keys), 0, "$name: back in the cluster it accepts none of these keys");
	add_row($name, \%first, $back, (check_all($name))[1 .. 3]);
	return;
}

# Without overten_auth.revocation_commit revocations get lost.
sub run_control
{
	progress('the control: overten_auth.revocation_commit = off');
	$cluster->reload($_, 'overten_auth.revocation_commit' => 'off') foreach $cluster->nodes;
	wait_for('the setting is off', 30, sub {
		return !grep { $cluster->sql($_, "LOAD 'overten_auth'; SHOW overten_auth.revocation_commit") ne 'off' } $cluster->nodes;
	});
	kill_server('the control: the same with revocation_commit off', control => 1);
	return;
}

sub print_report
{
	my @header = ('fault', 'first mint (s)', 'first revocation (s)', 'first verification (s)', 'API away (s)', 'server back (s)',
		'revocations acknowledged so far', 'alive again', 'uses lost');
	my @table = (\@header, [ ('---') x @header ], @rows);

	push @figures, "Standbys behind HAProxy, without the control: $standbys->{on_standbys} verifications, $standbys->{late} late; the oldest revocation of an accepted key was $standbys->{oldest_ms} ms old."
	  if $standbys;

	print "\n", map({ '| ' . join(' | ', @$_) . " |\n" } @table), "\n", map({ "$_\n" } @figures), "\n";
	return;
}

my $leader = set_up();
$sealed = seal($leader);
$clients->start;
my %number;
my %rounds = (
	postgres => sub { kill_postgres("kill -9 of PostgreSQL, $_[0]") },
	server => sub { kill_server("kill -9 of PostgreSQL and Patroni, $_[0]") },
	frozen => sub { freeze_server("frozen leader, $_[0]") },
	control => \&run_control);
foreach my $round (split ' ', $ENV{CLUSTER_ROUNDS} || 'postgres postgres server server server frozen control')
{
	my $run = $rounds{$round} or die "CLUSTER_ROUNDS: there is no round \"$round\"\n";

	$run->(++$number{$round});
}
print_report();
done_testing();
