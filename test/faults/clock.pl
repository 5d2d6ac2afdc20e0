
# The server's clock is put forward and back while it runs: tokens are good by
# the clock as it is now, whatever is cached; keys go on; revoked ones stay so;
# uses are flushed and none is lost, the time of the last use moves forward only;
# signing keys are fetched when they are needed.  pg_regress cannot move a clock.
#
# clock_shift.c does, for the server's processes alone.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin, "$FindBin::RealBin/../t";
use FaultTest;
use FirebaseTokens;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my ($hour, $day) = (3600, 86400);
my $dir = PostgreSQL::Test::Utils::tempdir;

# How far the server's clock is ahead.
my $offset = 0;

sub write_file
{
	my ($name, $text) = @_;

	open my $file, '>', "$dir/$name.new" or die "$name: $!";
	print $file $text;
	close $file;
	rename "$dir/$name.new", "$dir/$name" or die "$name: $!";
	return;
}

# Put the server's clock so many seconds ahead of the real one.
sub set_clock
{
	my ($to) = @_;

	$offset = $to;
	open my $file, '>>', "$dir/clock" or die "clock: $!";
	close $file;
	open $file, '+<:raw', "$dir/clock" or die "clock: $!";
	syswrite $file, pack 'q', 1_000_000 * $offset;
	close $file;
	return;
}

my $signer = new_rsa();
write_file('answer', "HTTP/1.1 200 OK\r\nCache-Control: max-age=$hour\r\n\r\n"
	  . json({ 'key-1' => certificate($signer) }));
write_file('fetches', '');
set_clock(0);

my $node = PostgreSQL::Test::Cluster->new('clock');
$node->init;
$node->append_conf('postgresql.conf', <<"EOC");
autovacuum = off
log_statement = none
shared_preload_libraries = 'overten_auth'
overten_auth.databases = 'postgres'
overten_auth.flush_interval = 2
overten_auth.firebase_project_id = '${\PROJECT}'
overten_auth.signing_keys_command = 'echo >>$dir/fetches; cat $dir/answer'
EOC
{
	local $ENV{LD_PRELOAD} = "$FindBin::RealBin/../modules/clock_shift.so";
	local $ENV{CLOCK_SHIFT} = "$dir/clock";

	$node->start;
}
ask($node, 'CREATE EXTENSION overten_auth CASCADE');
ask($node, OUTCOME_FUNCTION);

my $session = $node->background_psql('postgres');
$session->set_query_timer_restart;
my $org = create_org($node, 'Timed');
my ($secret, $key) = mint($node, $org);
my $clock = 'SELECT extract(epoch FROM clock_timestamp())';
my (%tokens, %history, %minted, @order, @rows);
my $last_used = 0;
my ($old, $old_key) = mint($node, $org);
my %revoked = ('revoked at first' => $old);

ask($node, "SELECT overten_revoke_key('$org', '$old_key')");
ask($node, "SELECT overten_rotate_webhook_secret('$org', '1 day')");

sub fetches
{
	return () = slurp_file("$dir/fetches") =~ /\n/g;
}

# A token that is good from 100 s before to 3500 s after the time of an offset.
sub token_of
{
	my ($at) = @_;
	my $now = int time + $at;

	return token($signer, header(), claims(auth_time => $now - 100, iat => $now - 100, exp => $now + 3500));
}

# What is to be said of the token of an offset.
sub expected_of
{
	my ($at) = @_;

	return $offset < $at - 100 ? '28000' : $offset > $at + 3500 ? '28OA1' : 'ok';
}

# The history of the key as it is, and as it must be, by hours.
sub history
{
	return ask($session, "SELECT string_agg(extract(epoch FROM hour)::bigint || ':' || accepted, ' ' ORDER BY hour)
		FROM overten_auth.key_usage WHERE key_id = '$key'");
}

sub expected_history
{
	return join ' ', map { "$_:$history{$_}" } sort { $a <=> $b } keys %history;
}

# Do everything at a time that the clock has jumped to.
sub check_time
{
	my ($name, $to) = @_;
	my $fetched = fetches();
	my $jump = $to - $offset;
	my $begin = time;

	set_clock($to);
	my $now = ask($session, $clock);
	cmp_ok(abs($now - time - $offset), '<', 5, "$name: the server's clock has jumped");

	# Keys, and their uses
	is(verify($session, $secret), $key, 'a key goes on') foreach 1 .. 5;
	is(verify($node, $secret), $key, 'in a new session, too');
	is(verify($session, $revoked{$_}), '', "but not the one $_") foreach sort keys %revoked;
	my $bucket = int($now / $hour) * $hour;
	$history{$bucket} += 6;
	delete $history{$_} foreach grep { $_ < $now - 90 * $day } keys %history;
	my $flushed = time;
	wait_until('the uses are flushed', sub { history() eq expected_history() });
	$flushed = time - $flushed;
	cmp_ok($flushed, '<', 10, sprintf 'uses are flushed by themselves in %.1f s, under the hour that it is', $flushed);
	my $used = ask($session, "SELECT extract(epoch FROM last_used_at) FROM overten_list_keys('$org') WHERE key_id = '$key'");
	if ($now > $last_used)
	{
		cmp_ok(abs($used - $now), '<', 5, 'last_used_at is now');
	}
	else
	{
		is($used, $last_used, 'last_used_at does not go back');
	}
	$last_used = $used;

	# Signing keys and tokens
	wait_until('keys are fetched', sub { fetches() > $fetched }) if $jump != 0;
	my $fetch = time - $begin;
	$tokens{$offset} //= token_of($offset);
	wait_until('there are keys', sub { ask($session, "SELECT outcome('$tokens{$offset}')") eq 'ok' });
	my $until_good = time - $begin;
	foreach my $at (sort { $a <=> $b } keys %tokens)
	{
		foreach my $where ($session, $session, $node)
		{
			is(ask($where, "SELECT outcome('$tokens{$at}')"), expected_of($at),
				sprintf 'the token of %+.2f days: %s', $at / $day, expected_of($at));
		}
	}
	my $signatures = () = ask($session, "SELECT overten_sign_webhook('$org', 'msg', 1, 'x'::text)") =~ /v1,/g;
	is($signatures, $offset < $day ? 2 : 1, "$signatures signatures of webhooks, by the grace of a day");

	# Changes
	my ($new, $new_key) = mint($node, $org);
	is(verify($session, $new), $new_key, 'a key is minted');
	ask($node, "SELECT overten_revoke_key('$org', '$new_key')");
	$revoked{"revoked at $name"} = $new;
	is(verify($session, $new), '', 'and revoked');
	push @order, $new_key;
	flush_usage($session);

	push @rows, [ $name, sprintf('%.1f s', $flushed), $jump ? sprintf('%.1f s', $fetch) : '', sprintf('%.1f s', $until_good), $signatures ];
	return;
}

# So that no jump comes close to the end of an hour.
usleep(1_000_000) while time % $hour > $hour - 240;

is(ask($node, 'SELECT overten_refresh_signing_keys()'), 1, 'keys are fetched');
check_time('now', 0);
check_time('+1 h', $hour);
check_time('+2 days', 2 * $day + $hour);
check_time('-2 days', $hour);
check_time('-1 h', 0);
check_time('-1 h again', -$hour);
check_time('-2 days again', -$hour - 2 * $day);
check_time('back to now', 0);

# A key that a transaction has yet to commit.
my $minter = $node->background_psql('postgres');
ask($minter, 'BEGIN');
my ($open, $open_key) = mint($minter, $org);
verify($minter, $open) foreach 1 .. 3;
flush_usage($session);
set_clock($hour);
flush_usage($session);
ask($minter, 'COMMIT');
flush_usage($session);
is(uses($session, $open_key), 3, 'the uses of a key that is not committed yet are kept back when the clock is put forward');
$minter->quit;

# All that has been written under the times of before is older than 90 days.
is(scalar keys %history, 5, 'there is some history');
check_time('+100 days', 100 * $day);
is(history(), expected_history(), 'history that seems too old is removed');
is(scalar keys %history, 1, 'which is all of it');
check_time('back to now at last', 0);

is(ask($session, "SELECT count(*) FROM overten_auth.audit_log WHERE action = 'mint_key'
	AND key_id IN ('" . join("','", @order) . "')"), scalar @order, 'the audit log has all of it');
isnt(ask($session, "SELECT string_agg(key_id, ' ' ORDER BY at) FROM overten_auth.audit_log WHERE action = 'mint_key'
	AND key_id IN ('" . join("','", @order) . "')"), join(' ', @order), 'by the times that it had, not in the order in which it happened');
my $log = slurp_file($node->logfile);
unlike($log, qr/PANIC|FATAL|TRAP|terminated by signal/, 'nothing has crashed');

$session->quit;
$node->stop;
report('A clock that is set while the server runs',
	[ 'set to', 'uses flushed after', 'signing keys fetched after', 'a token of then good after', 'webhook signatures (grace of a day from now)' ], @rows);
done_testing();
