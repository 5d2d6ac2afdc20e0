
# A standby is promoted, and a base backup is taken, while keys are minted,
# revoked and used: what was acknowledged before is on the new server, with
# synchronous_commit = remote_apply all of it, and in a backup all from before
# it began; what a standby has counted is flushed when it is promoted.
#
# An idle standby is in test/t/170_usage_after_stops.pl.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin, "$FindBin::RealBin/../t";
use FaultTest;
use IPC::Run;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);
use WholeSurface;

my $settings = surface_settings('postgres') . <<'EOC';
overten_auth.flush_interval = 2
overten_auth.max_tracked_keys = 200000
max_connections = 30
EOC
my $inside = "overten_auth.master_key_file = 'overten_auth.key'\n";
my @rows;

seed();

# A server from a backup whose files are as private as they were.
sub server_from
{
	my ($node, $backup, $name, $more, %how) = @_;
	my $new = PostgreSQL::Test::Cluster->new($name);

	$new->init_from_backup($node, $backup, %how);
	my $key = $new->data_dir . '/overten_auth.key';
	if (-e $key)
	{
		chmod 0600, $key or die "chmod: $!";
	}
	$new->append_conf('postgresql.conf', $more);
	$new->start;
	return $new;
}

# Take a backup under load.
sub back_up
{
	my ($node, $load, $name) = @_;
	my $begin = instruct($load, 'stamp')->{stamp};

	$node->backup($name);
	return ($begin, instruct($load, 'stamp')->{stamp});
}


# Promotion

my $primary = create_node('primary', $settings . <<'EOC', allows_streaming => 1);
overten_auth.verify_on_standby = on
synchronous_commit = remote_apply
EOC
my $load = start_load($primary);
my $org = create_org($primary, 'Followed');
my ($secret, $key) = mint($primary, $org);
$primary->backup('standby');
my $standby = server_from($primary, 'standby', 'standby', "synchronous_commit = on\n", has_streaming => 1);
$primary->append_conf('postgresql.conf', "synchronous_standby_names = 'standby'");
$primary->reload;
$primary->poll_query_until('postgres', "SELECT sync_state = 'sync' FROM pg_stat_replication") or die 'no synchronous standby';

instruct($load, 'start');
my $script = $standby->basedir . '/verify.sql';
append_to_file($script, "SELECT overten_verify_key(:secret);\n");
my ($readers, $output) = (undef, '');
{
	local %ENV = $standby->_get_env();
	$readers = IPC::Run::start([ 'pgbench', '-n', '-T', 8, '-c', 3, '-R', 600, '-M', 'prepared',
		'-D', "secret=$secret", '-f', $script, 'postgres' ], '>', \$output, '2>', \my $error);
}
usleep(4_000_000);
my ($counted) = split /\|/, ask($standby, 'SELECT accepted, pg_is_in_recovery() FROM overten_stat');
cmp_ok($counted, '>', 500, "a standby has accepted $counted keys under load");
$standby->promote;
usleep(1_000_000);
$primary->stop('immediate');
instruct($load, 'await');
ok($readers->finish, 'its own clients have gone on while it was promoted');
my ($verified) = $output =~ /actually processed: (\d+)/;
instruct($load, 'connect ' . $standby->connstr('postgres'));
my $checked = check_load($load, 'promoted under load');
is(uses($standby, $key), $verified, "the $verified uses that were counted on it, before and after, are in the history");
push @rows, [ 'promoted standby (remote_apply)', $checked->{keys}, $checked->{revoked}, $checked->{in_between},
	"$checked->{lost} of $checked->{accepted} (the primary crashed)", $checked->{wrong} ];
instruct($load, 'start');
usleep(2_000_000);
instruct($load, 'stop');
$checked = check_load($load, 'and goes on');
is($checked->{lost}, 0, 'with exact counts');


# Backups, with the key file in the data directory and without

my $old_node = $standby;
foreach my $round (1 .. 2)
{
	my $file = PostgreSQL::Test::Utils::tempdir . "/outside$round.key";

	if ($round == 2)
	{
		system_or_bail('cp', '-p', $old_node->data_dir . '/overten_auth.key', $file);
		unlink $old_node->data_dir . '/overten_auth.key' or die "unlink: $!";
		$old_node->append_conf('postgresql.conf', "overten_auth.master_key_file = '$file'");
		$old_node->reload;
		$old_node->poll_query_until('postgres', 'SHOW overten_auth.master_key_file', $file) or die;
	}
	instruct($load, 'start');
	usleep(2_000_000);
	my ($begin, $end) = back_up($old_node, $load, "backup$round");
	usleep(1_000_000);

	my $missing = PostgreSQL::Test::Utils::tempdir . "/missing$round.key";
	my $new = server_from($old_node, "backup$round", "restored$round",
		"synchronous_standby_names = ''\n" . ($round == 2 ? "overten_auth.master_key_file = '$missing'\n" : $inside));
	instruct($load, 'stop');
	my $compared = instruct($load, "compare $begin $end " . $new->connstr('postgres'));
	is($compared->{wrong}, 0, "a backup under load, $round: $compared->{keys} keys, $compared->{revoked} revoked");
	push @rows, [ 'base backup, key file ' . ($round == 1 ? 'in it' : 'elsewhere'), $compared->{keys}, $compared->{revoked}, '', '', $compared->{wrong} ];

	my $webhook = "SELECT key_id, webhook_secret FROM overten_verify_key('$secret')";
	my $expected = ask($old_node, $webhook);
	like($expected, qr/^$key\|whsec_/, 'a webhook secret');
	if ($round == 2)
	{
		is(ask($new, $webhook), "$key|", 'without the key file keys are verified, without webhook secrets');
		is(sqlstate_of($new, "SELECT overten_create_org('Refused')"), '55000', 'and nothing is sealed');
		ok(!-e $missing, 'nor is another key file made');
		system_or_bail('cp', '-p', $file, $missing);
	}
	is(ask($new, $webhook), $expected, 'with the key file it opens');
	like(create_org($new, 'Sealed'), qr/^org_/, 'and others are sealed');
	is(verify($new, $secret), $key, 'a key is used');
	flush_usage($new);
	cmp_ok(uses($new, $key), '>=', $verified, 'and counted, after those of before');
	$new->stop;

	my $checked = check_load($load, 'the server itself has gone on');
	is($checked->{lost}, 0, 'and has counted each use');
}
my $counts = instruct($load, 'counts');
my $errors = join ', ', map { "$_ ($counts->{$_})" } grep { /:/ } sort keys %$counts;

$old_node->stop;
report('Failover and backups under load, seed ' . seed(),
	[ 'server', 'keys', 'of these revoked', 'changes without an answer that are there', 'uses lost', 'acknowledged changes lost, or too many' ],
	@rows, [ 'errors that clients met: ' . ($errors || 'none'), '', '', '', '', '' ]);
done_testing();
