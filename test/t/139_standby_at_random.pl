
# No verification on a standby that begins more than max_standby_lag after the
# COMMIT of a revocation has returned accepts the key, whatever happens to the
# standby meanwhile: replay is paused, and the processes of the standby, and
# those of the primary that serve it, are stopped, ended and killed at random.
# The same without the bound is the control: it has to accept keys late.
#
# OVERTEN_STANDBY_SECONDS makes it longer, OVERTEN_STANDBY_SEED repeats a run.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use StandbyFaults;
use StandbyTest;
use Test::More;
use Time::HiRes qw(time usleep);

my $bound = 300;
my $seconds = $ENV{OVERTEN_STANDBY_SECONDS} // 8;
my $control_seconds = 5;
my $seed = int($ENV{OVERTEN_STANDBY_SEED} // time % 1_000_000);
my $pace = 0.03;    # seconds between revocations
my $readers = 2;
my $dir = PostgreSQL::Test::Utils::tempdir;

srand $seed;
diag("seed $seed (OVERTEN_STANDBY_SEED)");

my $primary = create_primary('primary', $bound, "max_wal_senders = 100\nmax_connections = 200\n");
my $org = create_org($primary, 'Random');
ask($primary, <<"EOQ");
CREATE TABLE keys (round int, n int, secret text, key_id text);
CREATE TABLE revoked (round int, n int, at timestamptz);
CREATE TABLE filler (n int);

-- Revoke the keys of a round, and note when each COMMIT has returned.
CREATE PROCEDURE revoke(which int, pace float8) LANGUAGE plpgsql AS \$\$
DECLARE
	k record;
BEGIN
	FOR k IN SELECT * FROM keys WHERE round = which ORDER BY n LOOP
		PERFORM overten_revoke_key('$org', k.key_id);
		COMMIT;
		INSERT INTO revoked VALUES (which, k.n, clock_timestamp());
		COMMIT;
		PERFORM pg_sleep(pace * 2 * random());
	END LOOP;
END \$\$;

-- Verify all keys of a round for some time.  When did the last verification of
-- each begin that has accepted it?
CREATE FUNCTION verify_for(which int, seconds float8)
	RETURNS TABLE (n int, accepted bigint, refused bigint, beyond bigint, last_begin numeric)
	LANGUAGE plpgsql AS \$\$
DECLARE
	until timestamptz := clock_timestamp() + seconds * interval '1 s';
	secrets text[] := ARRAY(SELECT secret FROM keys WHERE round = which ORDER BY keys.n);
	counts bigint[] := array_fill(0, ARRAY[cardinality(secrets)]);
	lasts timestamptz[] := array_fill(NULL::timestamptz, ARRAY[cardinality(secrets)]);
	began timestamptz;
BEGIN
	refused := 0;
	beyond := 0;
	WHILE clock_timestamp() < until LOOP
		FOR i IN 1 .. cardinality(secrets) LOOP
			began := clock_timestamp();
			BEGIN
				PERFORM FROM overten_verify_key(secrets[i]);
				IF FOUND THEN
					counts[i] := counts[i] + 1;
					lasts[i] := began;
				ELSE
					refused := refused + 1;
				END IF;
			EXCEPTION WHEN object_not_in_prerequisite_state THEN
				beyond := beyond + 1;
				PERFORM pg_sleep(0.001);
				EXIT;
			END;
		END LOOP;
		PERFORM pg_sleep(0.004);
	END LOOP;
	FOR i IN 1 .. cardinality(secrets) LOOP
		n := i;
		accepted := counts[i];
		last_begin := extract(epoch FROM lasts[i]);
		RETURN NEXT;
		refused := 0;
		beyond := 0;
	END LOOP;
END \$\$;
EOQ

# The keys of a round, enough for its time.
sub mint_keys
{
	my ($round, $time) = @_;
	my $keys = int($time / $pace) + 5;

	return ask($primary, "INSERT INTO keys SELECT $round, n, secret, key_id
		FROM generate_series(1, $keys) n, overten_mint_key('$org', 'key ' || n)");
}
mint_keys(1, $seconds);
mint_keys(2, $control_seconds);
$primary->backup('base');
my $standby = create_standby($primary, 'base', 'standby', "max_standby_streaming_delay = -1\n");

# Run SQL in a psql of its own, and leave what it answers in a file.
sub in_background
{
	my ($node, $sql, $to) = @_;
	my $pid = fork // die "fork: $!";

	return $pid if $pid;
	open STDOUT, '>>', $to or die "$to: $!";
	open STDERR, '>>', "$to.err" or die "$to: $!";
	exec 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', $sql or die "psql: $!";
}

# A round of faults, revocations and verifications.  Returns its figures.
sub round
{
	my ($round, $time) = @_;
	my $end = time + $time;
	my %readers;
	my %figures = (accepted => 0, refused => 0, beyond => 0, late => 0, oldest => 0,
		faults => 0);
	my $next_fault = time;
	my $revoker = in_background($primary, "CALL revoke($round, $pace)", "$dir/revoker");

	while (time < $end)
	{
		while (keys %readers < $readers)
		{
			$readers{ in_background($standby, "SELECT * FROM verify_for($round, 0.3)", "$dir/answers$round") } = 1;
		}
		if (time > $next_fault)
		{
			one_fault($primary, $standby);
			$figures{faults}++;
			$next_fault = time + rand 0.6;
		}
		mend(0);
		revive($standby);
		usleep(5000);
		foreach my $pid (keys %readers)
		{
			delete $readers{$pid} if waitpid($pid, 1) == $pid;
		}
	}
	mend(1);
	ask($primary, "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE 'CALL revoke%'");
	waitpid $_, 0 foreach $revoker, keys %readers;

	my %revoked = map { split /\|/ } split /\n/,
	  ask($primary, "SELECT n, extract(epoch FROM at) FROM revoked WHERE round = $round");
	$figures{revoked} = keys %revoked;
	foreach (split /\n/, slurp_file("$dir/answers$round"))
	{
		my ($n, $accepted, $refused, $beyond, $last) = split /\|/ or next;

		$figures{accepted} += $accepted;
		$figures{refused} += $refused;
		$figures{beyond} += $beyond;
		next unless $last && $revoked{$n};
		my $age = $last - $revoked{$n};
		$figures{oldest} = $age if $age > $figures{oldest};
		$figures{late}++ if $age > $bound / 1000;
	}
	return \%figures;
}

sub told
{
	my ($figures) = @_;

	return join ', ', map { sprintf '%.10g %s', $figures->{$_}, $_ } sort keys %$figures;
}

wait_within($standby);
my $bounded = round(1, $seconds);
diag('with the bound: ' . told($bounded));
is($bounded->{late}, 0, 'no key is accepted later than the bound');
cmp_ok($bounded->{accepted}, '>', 500 * $seconds, 'many are accepted');
cmp_ok($bounded->{beyond}, '>', 0, 'and the standby is beyond its bound at times');
cmp_ok($bounded->{revoked}, '>', 5 * $seconds, 'while keys are revoked');

# It is well afterwards.
revive($standby);
wait_until('the standby answers', sub { $standby->psql('postgres', 'SELECT 1') == 0 });
wait_within($standby);
cmp_ok(ask($standby, 'SELECT sum(refused) FROM verify_for(1, 0.3)'),
	'>=', $bounded->{revoked}, 'it is within the bound afterwards, and refuses what was revoked');

set_conf($standby, 'overten_auth.max_standby_lag' => 0);
my $control = round(2, $control_seconds);
diag('without it: ' . told($control));
cmp_ok($control->{late}, '>', 0, 'without the bound keys are accepted late');
$standby->stop('immediate');
$primary->stop('immediate');
done_testing();
