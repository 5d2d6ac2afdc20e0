
# A primary and two standbys with a bound, to which everything happens at random:
# replay is paused, processes and whole servers are stopped, ended and killed,
# connections are cut, a standby is promoted in place of a primary that is killed, and
# that comes back with pg_rewind.  Meanwhile keys are revoked, and verified on all
# three.  No answer is impossible:
#
#	- on a standby, a verification that begins later than the bound after the COMMIT of
#	  the revocation has returned does not accept the key; on the primary, one that
#	  begins after it
#	- none refuses a key that nobody has begun to revoke before it ended
#
# The same without the bound is the control: keys are accepted late.
#
# FAULT_SECONDS (600) is how long, FAULT_SEED what is drawn.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin, "$FindBin::RealBin/../t";
use FaultTest qw(seed report);
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use StandbyFaults;
use StandbyTest;
use Test::More;
use Time::HiRes qw(time usleep);

my $bound = 500;
my $seconds = $ENV{FAULT_SECONDS} // 600;
my $control_seconds = 30;
my $between_failovers = 20;
my $pace = 0.1;    # seconds between revocations
my $window = 30;    # keys that are verified, on each side of the one that is revoked next
my $dir = PostgreSQL::Test::Utils::tempdir;

seed();

# The servers.  All have the same settings, because each can be the primary.

my $primary = create_primary('server1', $bound, <<'EOC');
max_wal_senders = 100
max_connections = 200
wal_log_hints = on
wal_receiver_timeout = 3s
wal_sender_timeout = 3s
synchronous_standby_names = ''
overten_auth.revocation_commit = on
EOC
my $org = create_org($primary, 'Random');
my $keys = 2 * $window + int(($seconds + $control_seconds) / $pace);
ask($primary, <<"EOQ");
CREATE TABLE keys AS
	SELECT n::int, secret, key_id FROM generate_series(1, $keys) n, overten_mint_key('$org', 'key ' || n);
ALTER TABLE keys ADD PRIMARY KEY (n);
VACUUM ANALYZE;

-- Verify some keys for some time.  Of each key: how often it was accepted, when the last
-- verification began that has accepted it, and when the first ended that has refused it.
-- In the first row: how often none was verified, and how long that was so.
CREATE FUNCTION verify_for(low int, high int, seconds float8)
	RETURNS TABLE (n int, on_standby boolean, accepted bigint, last_begin numeric, refused bigint, first_end numeric,
		beyond bigint, beyond_seconds numeric)
	LANGUAGE plpgsql AS \$\$
DECLARE
	until timestamptz := clock_timestamp() + seconds * interval '1 s';
	secrets text[] := ARRAY(SELECT secret FROM keys WHERE keys.n BETWEEN low AND high ORDER BY keys.n);
	counts bigint[] := array_fill(0, ARRAY[cardinality(secrets)]);
	refusals bigint[] := counts;
	lasts timestamptz[] := array_fill(NULL::timestamptz, ARRAY[cardinality(secrets)]);
	firsts timestamptz[] := lasts;
	began timestamptz;
	beyond_since timestamptz;
BEGIN
	-- One that is promoted meanwhile counts as a standby.
	on_standby := pg_is_in_recovery();
	beyond := 0;
	beyond_seconds := 0;
	WHILE clock_timestamp() < until LOOP
		FOR i IN 1 .. cardinality(secrets) LOOP
			began := clock_timestamp();
			IF beyond_since IS NOT NULL THEN
				beyond_seconds := beyond_seconds + extract(epoch FROM began - beyond_since);
				beyond_since := NULL;
			END IF;
			BEGIN
				PERFORM FROM overten_verify_key(secrets[i]);
				IF FOUND THEN
					counts[i] := counts[i] + 1;
					lasts[i] := began;
				ELSE
					refusals[i] := refusals[i] + 1;
					firsts[i] := coalesce(firsts[i], clock_timestamp());
				END IF;
			EXCEPTION WHEN object_not_in_prerequisite_state THEN
				beyond := beyond + 1;
				beyond_since := began;
				PERFORM pg_sleep(0.002);
				EXIT;
			END;
		END LOOP;
		PERFORM pg_sleep(0.008);
	END LOOP;
	FOR i IN 1 .. cardinality(secrets) LOOP
		n := low + i - 1;
		accepted := counts[i];
		last_begin := extract(epoch FROM lasts[i]);
		refused := refusals[i];
		first_end := extract(epoch FROM firsts[i]);
		RETURN NEXT;
		beyond := 0;
		beyond_seconds := 0;
	END LOOP;
END \$\$;
EOQ
my %secrets_of = map { split /\|/ } split /\n/, ask($primary, 'SELECT n, key_id FROM keys');
$primary->backup('base');
my ($address, $port) = address();
lead_to($primary);
my @standbys = map {
	create_standby($primary, 'base', $_, "primary_conninfo = '${\conninfo($address, $port)}'\nmax_standby_streaming_delay = -1\n")
} 'server2', 'server3';
$primary->append_conf('postgresql.conf', "primary_conninfo = '${\conninfo($address, $port)}'\nmax_standby_streaming_delay = -1\n");
my @servers = ($primary, @standbys);
set_conf($_, synchronous_standby_names => 'ANY 1 (*)') foreach @servers;


# Clients

# Run psql in the background, which writes its answers to a file.
sub in_background
{
	my ($node, $to, @what) = @_;
	my $pid = fork // die "fork: $!";

	return $pid if $pid;
	open STDIN, '<', '/dev/null' or die "/dev/null: $!";
	open STDOUT, '>>', $to or die "$to: $!";
	open STDERR, '>>', "$to.err" or die "$to: $!";
	exec 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres'), @what or die "psql: $!";
}

# Revoke keys one by one, from a number on, and say before and after each when it was.
sub start_revoker
{
	my ($node, $from) = @_;
	my $script = "$dir/revoke$from.sql";
	my $text = '';

	foreach my $n ($from .. $from + 299)
	{
		last unless defined $secrets_of{$n};
		$text .= "SELECT 'begin', $n, extract(epoch FROM clock_timestamp());\n"
		  . "SELECT overten_revoke_key('$org', '$secrets_of{$n}') \\g /dev/null\n"
		  . "SELECT 'end', $n, extract(epoch FROM clock_timestamp());\n"
		  . 'SELECT pg_sleep(' . $pace * 2 * rand() . ") \\g /dev/null\n";
	}
	unlink $script;
	append_to_file($script, $text);
	return in_background($node, "$dir/revoker", '-f', $script);
}

# When the revocation of each key has begun, and has returned.  A key whose COMMIT has
# not returned can be either.
sub revocations
{
	my (%begun, %returned);

	foreach (split /\n/, slurp_file("$dir/revoker"))
	{
		my ($what, $n, $at) = /^(begin|end)\|(\d+)\|([\d.]+)$/ or next;

		$what eq 'begin' ? ($begun{$n} //= $at) : ($returned{$n} = $at);
	}
	return (\%begun, \%returned);
}


# Faults, revocations and verifications for some time.  Returns the figures, of each
# server and of all.

my $next = $window + 1;    # the key that is revoked next
my $longest_failover = 0;

sub run_for
{
	my ($time, $round) = @_;
	my $end = time + $time;
	my $next_fault = time;
	my $next_failover = time + $between_failovers / 2;
	my (%readers, $revoker);

	while (time < $end)
	{
		foreach my $node (@servers)
		{
			my $reader = \$readers{ $node->name };

			$$reader = undef if $$reader && waitpid($$reader, 1) == $$reader;
			$$reader //= in_background($node, "$dir/" . $node->name . $round, '-c',
				sprintf 'SELECT * FROM verify_for(%d, %d, 0.4)', $next - $window, $next + $window);
		}
		if (!$revoker || waitpid($revoker, 1) == $revoker)
		{
			$next++ if $revoker;
			$revoker = start_revoker($primary, $next);
		}
		my ($begun) = -e "$dir/revoker" ? revocations_since() : {};
		$next = $_ foreach grep { $_ > $next } keys %$begun;
		if (time > $next_failover)
		{
			my ($new, $took) = fail_over($primary, @standbys);

			@standbys = grep { $_ != $new } @servers;
			$primary = $new;
			$longest_failover = $took if $took > $longest_failover;
			$next_failover = time + $between_failovers * (0.5 + rand);
			diag(sprintf '%s is the primary after %.1f s, %d s left, key %d', $new->name, $took, $end - time, $next);
		}
		if (time > $next_fault)
		{
			one_fault($primary, $standbys[ rand @standbys ]);
			$next_fault = time + rand 0.8;
		}
		mend(0);
		revive($_) foreach @standbys;
		usleep(10_000);
	}
	mend(1);
	revive($_) foreach @standbys;
	wait_until('the servers answer', sub { !grep { $_->psql('postgres', 'SELECT 1') != 0 } @servers });
	kill 'TERM', $revoker;
	waitpid $_, 0 foreach $revoker, grep { defined } values %readers;
	return judge($round);
}

# What the revoker has begun since the last call.
my $revoker_read = 0;

sub revocations_since
{
	my $text = slurp_file("$dir/revoker", $revoker_read);

	$revoker_read += length($text);
	return { map { $_ => 1 } $text =~ /^begin\|(\d+)\|/mg };
}

# Hold the answers against the model.
sub judge
{
	my ($round) = @_;
	my ($begun, $returned) = revocations();
	my %all = (late => 0, oldest => 0, early => 0, acknowledged => scalar keys %$returned);
	my %of;

	foreach my $node (@servers)
	{
		my $sum = $of{ $node->name } = { map { $_ => 0 } qw(accepted refused beyond beyond_seconds oldest) };

		foreach (split /\n/, slurp_file("$dir/" . $node->name . $round))
		{
			my ($n, $on_standby, $accepted, $last, $refused, $first, $beyond, $beyond_seconds) = split /\|/, $_, -1;

			next unless defined $beyond_seconds;
			$sum->{accepted} += $accepted;
			$sum->{refused} += $refused;
			$sum->{beyond} += $beyond;
			$sum->{beyond_seconds} += $beyond_seconds;
			if ($last ne '' && defined $returned->{$n} && $last > $returned->{$n})
			{
				my $age = $last - $returned->{$n};

				$sum->{oldest} = $age if $age > $sum->{oldest};
				if ($age > ($on_standby eq 't' ? $bound / 1000 : 0))
				{
					$all{late}++;
					diag(sprintf 'late: key %d on %s (%s), %.3f s after its revocation', $n, $node->name, $on_standby eq 't' ? 'standby' : 'primary', $age)
					  if $round == 1;
				}
			}
			if ($first ne '' && (!defined $begun->{$n} || $first < $begun->{$n}))
			{
				$all{early}++;
				diag("refused before its revocation: key $n on " . $node->name);
			}
		}
		$all{$_} += $sum->{$_} foreach qw(accepted refused beyond beyond_seconds);
		$all{oldest} = $sum->{oldest} if $sum->{oldest} > $all{oldest};
	}
	return (\%all, \%of);
}

sub rows
{
	my ($round, $all, $of) = @_;

	return map {
		[ "$round: $_->[0]", @{ $_->[1] }{qw(accepted refused beyond)},
			sprintf('%.1f', $_->[1]{beyond_seconds}), sprintf('%.0f', 1000 * $_->[1]{oldest}), $_->[1]{late} // '' ]
	} (map { [ $_, $of->{$_} ] } sort keys %$of), [ 'all', $all ];
}

wait_within($_) foreach @standbys;
my ($all, $of) = run_for($seconds, 1);
my $revoked = $all->{acknowledged};
is($all->{late}, 0, 'no key is accepted later than the bound after its revocation');
is($all->{early}, 0, 'and none refused before it');
cmp_ok($all->{accepted}, '>', 200 * $seconds, 'many are accepted');
cmp_ok($all->{refused}, '>', 20 * $seconds, 'many are refused');
cmp_ok($of->{$_}{beyond}, '>', 0, "$_ was beyond its bound at times") foreach sort keys %$of;
cmp_ok($revoked, '>', 0.5 * $seconds, 'while keys are revoked');
wait_within($_) foreach @standbys;
pass('all are within the bound afterwards');
my @rows = rows('with the bound', $all, $of);
my %counts = %{ fault_counts() };

set_conf($_, 'overten_auth.max_standby_lag' => 0) foreach @servers;
($all, $of) = run_for($control_seconds, 2);
cmp_ok($all->{late}, '>', 0, 'without the bound keys are accepted late');
is($all->{early}, 0, 'and none is refused early');

report("A primary and two standbys at random, $seconds s, a bound of $bound ms, seed " . seed(),
	[ 'server', 'accepted', 'refused', 'answers 55000', 'seconds of these', 'oldest acceptance after a revocation (ms)', 'late' ],
	@rows, rows('without', $all, $of));
report('What has happened to them', [ 'what', 'number' ], [ 'revocations, acknowledged', $revoked ],
	map({ [ $_, $counts{$_} ] } sort keys %counts),
	[ 'longest failover, from the kill to the new primary', sprintf('%.1f s', $longest_failover) ]);
$_->stop('immediate') foreach @standbys, $primary;
done_testing();
