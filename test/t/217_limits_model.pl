
# What limits promise, compared with a model: a million requests of several
# sessions, each with the reading of the clock that decided it.  Needs modules of
# its own, and sessions at once.
#
# The monotonic clock of the sessions is one that test/modules/test_clock.c
# counts, so that their times have an order, and an hour passes as fast as a
# second.  test/modules/admissions.c asks, notes and compares.

use strict;
use warnings FATAL => 'all';

use Cwd qw(abs_path);
use FindBin;
use lib $FindBin::RealBin;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $modules = abs_path("$FindBin::RealBin/../modules");
my $dir = PostgreSQL::Test::Utils::tempdir;
my $requests = $ENV{OVERTEN_LIMIT_REQUESTS} // 250_000;    # of each of 4 sessions, in one SELECT
my $rounds = 0;

sub set_clock
{
	my ($at) = @_;

	open my $clock, -e "$dir/clock" ? '+<' : '>', "$dir/clock" or die $!;
	binmode $clock;
	print $clock pack 'q', $at;
	close $clock or die $!;
	return;
}

set_clock(1_000_000_000_000);
chmod 0666, "$dir/clock" or die $!;

my $node;
{
	local $ENV{TEST_CLOCK} = "$dir/clock";
	local $ENV{LD_PRELOAD} = "$modules/test_clock.so";
	$node = create_node('model', <<'EOC');
shared_preload_libraries = 'overten_auth'
overten_auth.databases = 'postgres'
overten_auth.flush_interval = 1h
max_prepared_transactions = 5
EOC
}
ask($node, <<"EOC");
CREATE FUNCTION admissions(text, int4, int4, int8, int8, int4, text)
	RETURNS int8 LANGUAGE c STRICT AS '$modules/admissions.so';
CREATE FUNCTION check_admissions(text[], int4[], int8[], int4[], int8[])
	RETURNS text LANGUAGE c STRICT AS '$modules/admissions.so';
EOC
my $org = create_org($node, 'Model');

sub set_limit
{
	my ($scope, $subject, $name, $quota, $period, $burst, $per) = @_;

	return ask($node,
		"SELECT overten_set_limit('$scope', '$subject', '$name', $quota, '$period s', $burst, '${\($per // 'key')}')");
}

# Start psql with statements.  They are in a file, so that it needs nothing from us.
sub start_psql
{
	my ($sql) = @_;
	my $file = "$dir/statements" . ++$rounds;

	append_to_file($file, $sql);
	return IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-f', $file ],
		'>', '/dev/null', '2>', "$file.err");
}

# Run sessions at once.  Each is [ secret, who, statements around the calls ],
# where CALL stands for a call with the rest of the requests.  Returns the files.
sub run_sessions
{
	my ($count, $max_cost, $step, $pause, @sessions) = @_;
	my (@files, @running);
	my $gate = $node->background_psql('postgres');

	# All begin at the same moment.
	ask($gate, 'SELECT pg_advisory_lock(1)');
	for my $session (@sessions)
	{
		my ($secret, $who, $around) = @$session;
		my $file = "$dir/requests" . ++$rounds;
		my $parts = () = ($around // 'CALL;') =~ /CALL/g;
		my $call = sprintf "SELECT admissions('%s', %d, %d, %d, %d, %d, '%s')",
		  $secret, $who, $count / $parts, $max_cost, $step, $pause, $file;
		my $sql = 'SELECT pg_advisory_lock_shared(1), pg_advisory_unlock_shared(1);'
		  . (($around // 'CALL;') =~ s/CALL/$call/gr);

		# A file of a session that was canceled at once.
		append_to_file($file, '');
		chmod 0666, $file or die $!;
		push @files, $file;
		push @running, start_psql($sql);
	}
	$node->poll_query_until('postgres',
		"SELECT count(*) = ${\scalar @sessions} FROM pg_locks WHERE locktype = 'advisory' AND NOT granted");
	$gate->quit;
	$_->finish foreach @running;
	return @files;
}

# The model's judgement of the requests in files.  Each limit is [ whose, quota,
# period, burst ].
sub judge
{
	my ($files, @limits) = @_;
	my @columns = map {
		my $n = $_;
		"'{" . join(',', map { $_->[$n] } @limits) . "}'"
	} 0 .. 3;

	return ask($node,
		"SELECT check_admissions('{" . join(',', @$files) . "}', $columns[0], $columns[1], $columns[2], $columns[3])");
}

# The same, which must find nothing wrong, and some requests of each kind.
sub holds
{
	my ($name, $files, @limits) = @_;
	my $judgement = judge($files, @limits);
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	like($judgement, qr/^\d+ requests, \d+ admitted$/, $name);
	my ($asked, $admitted) = $judgement =~ /(\d+)/g;
	cmp_ok($admitted, '>', $asked / 100, "$name: some were admitted");
	cmp_ok($admitted, '<', $asked * 99 / 100, "$name: some were refused");
	return;
}

# A key that has been used in this hour, so that nothing else reads the clock.
sub warm_key
{
	my ($secret, $id) = mint($node, $org);

	ok(is_accepted($node, $secret), 'a key') or diag('not accepted');
	return ($secret, $id);
}

# The judge finds what is wrong.
{
	my $file = "$dir/judged";
	my $write = sub {
		open my $out, '>', $file or die $!;
		binmode $out;
		print $out map { pack 'q3l2', @$_ } @_;
		close $out;
		chmod 0644, $file;
	};
	my $second = 1_000_000_000;
	my @seven = ([ 0, 7, 1, 1 ]);

	# 7 a second: the second one comes after 142857142.857 ns.
	$write->([ 1, 1, 7, 0, 1 ], [ 142_857_143, 1, 7, 0, 0 ], [ 142_857_144, 1, 7, 0, 1 ]);
	is(judge([$file], @seven), '3 requests, 2 admitted', 'the model: right');
	$write->([ 1, 1, 7, 0, 1 ], [ 142_857_143, 1, 7, 0, 1 ]);
	like(judge([$file], @seven), qr/^request 1 of 2, .* admitted above the limit$/, 'too early');
	$write->([ 1, 1, 7, 0, 1 ], [ 142_857_144, 1, 7, 0, 0 ]);
	like(judge([$file], @seven), qr/^request 1 of 2, .* was refused$/, 'refused though late enough');
	$write->([ 1, 2, 7, 0, 1 ]);
	like(judge([$file], @seven), qr/^request 0 of 1, /, 'more than the burst');
}

# -- To the tick --

# With one limit, and with two, which are asked in another way.  A nanosecond is one tick
# of 10 a second, and seven of 7 a second: a burst of 6 is repaid one tick after a reading
# of the clock, so that not even a nanosecond hides a tick.
{
	my $at = 1_000_000_000_000;
	my $ask = sub {
		my ($secret, $cost, $file) = @_;

		set_clock($at - 1);
		return ask($node, "SELECT admissions('$secret', 0, 1, -$cost, 1, 0, '$file')");
	};

	foreach my $case ([ 10, 1, 1, 1, 100_000_000 ], [ 10, 1, 10, 3, 300_000_000 ], [ 7, 1, 6, 6, 857_142_858 ], [ 1_000_000, 1, 5, 5, 5000 ], [ 999_983, 3600, 7, 1, 3_600_062 ])
	{
		my ($quota, $period, $burst, $cost, $wait) = @$case;

		foreach my $other (0, 1)
		{
			my ($secret, $id) = warm_key();
			my $file = "$dir/ticks" . ++$rounds;
			my $name = "$cost of $quota in $period s" . ($other ? ', and another limit' : '');

			append_to_file($file, '');
			chmod 0666, $file or die $!;
			set_limit('key', $id, 'x', $quota, $period, $burst);
			set_limit('key', $id, 'y', 1_000_000, 1, 1_000_000) if $other;
			$at += 1_000_000_000;
			is($ask->($secret, $burst, $file), 1, "$name: the burst");
			$at += $wait - 1;
			is($ask->($secret, $cost, $file), 0, "$name: a nanosecond too early");
			$at += 1;
			is($ask->($secret, $cost, $file), 1, "$name: in time");
			is(judge([$file], [ 0, $quota, $period, $burst ]), '3 requests, 2 admitted', "$name: as the model says");
		}
	}
}

# -- One limit, several sessions --

# 7 a second, whose T is no whole number of nanoseconds.  A request costs 1 on
# average, and a quarter of the time that it needs passes between two requests.
{
	my ($secret, $id) = warm_key();

	set_limit('key', $id, 'x', 7, 1, 3);
	my @files = run_sessions($requests, 3, 70_000_000, 100, map { [ $secret, 0 ] } 1 .. 4);
	holds('7 a second', \@files, [ 0, 7, 1, 3 ]);
	unlink @files;
}

# Costs to a million, times that take another epoch after 38 minutes, and all
# that can become of a transaction.
{
	my ($secret, $id) = warm_key();
	my @ends = (
		'BEGIN ISOLATION LEVEL SERIALIZABLE; CALL; ROLLBACK; BEGIN READ ONLY; CALL; COMMIT;',
		"BEGIN; SAVEPOINT s; CALL; ROLLBACK TO s; CALL; PREPARE TRANSACTION 'p'; CALL; ROLLBACK PREPARED 'p';",
		'BEGIN ISOLATION LEVEL REPEATABLE READ; CALL; SELECT 1/0; CALL; ROLLBACK; CALL;',
		join('', map { "SET statement_timeout = 50; CALL; RESET statement_timeout;" } 1 .. 20),
	);

	set_limit('key', $id, 'x', 999_983, 1, 2_000_000);
	my @files = run_sessions($requests / 2, 1_000_000, 400_000_000, 100, map { [ $secret, 0, $_ ] } @ends);
	holds('costs to a million', \@files, [ 0, 999_983, 1, 2_000_000 ]);
	unlink @files;
}

# -- Several limits --

# Two keys of an org, each with two limits of its own, and one that they share.
{
	my ($one, $one_id) = warm_key();
	my ($two, $two_id) = warm_key();

	set_limit('org', $org, 'shared', 1000, 3, 300, 'org');
	set_limit('key', $one_id, 'x', 777, 3, 20);
	set_limit('key', $one_id, 'y', 7, 1, 50);
	set_limit('key', $two_id, 'x', 600, 1, 40);
	my @files = run_sessions($requests / 2, 30, 30_000_000, 100,
		[ $one, 0 ], [ $one, 0 ], [ $two, 1 ], [ $two, 1 ]);
	holds(
		'several limits', \@files,
		[ -1, 1000, 3, 300 ],
		[ 0, 777, 3, 20 ],
		[ 0, 7, 1, 50 ],
		[ 1, 600, 1, 40 ]);
	unlink @files;
	ask($node, "SELECT overten_drop_limit('org', '$org', 'shared')");
}

# -- Limits that change meanwhile --

# Each of three limits has a bucket of its own, which is there again when the
# limit is.
{
	my ($secret, $id) = warm_key();
	my @quotas = (11, 13, 17);

	set_limit('key', $id, 'x', $quotas[0], 1, 5);
	my $sql = join '', map {
		"SELECT overten_set_limit('key', '$id', 'x', $quotas[$_ % 3], '1 s', 5) FROM pg_sleep(0.002);\n"
	} 1 .. 200;
	my $setting = start_psql($sql);
	my @files = run_sessions($requests / 2, 5, 100_000_000, 100, map { [ $secret, 0 ] } 1 .. 2);
	$setting->finish;
	holds('limits that change', \@files, map { [ -2, $_, 1, 5 ] } @quotas);
	my $seen = ask($node, "SELECT count(*) > 20 FROM overten_auth.audit_log WHERE action = 'set_limit' AND key_id = '$id'");
	is($seen, 't', 'they have changed');
	unlink @files;
}

$node->stop;
done_testing();
