
# Disks that are full, under load: where only tables do not fit any more, writing
# fails and verifying goes on; where the WAL does not, the server stops with a
# panic, and has all that it has acknowledged when there is room again; and of
# the files of the master key none is left by half.
#
# The disks are small ones that test/faults/run has mounted.  What a limit on the
# size of files shows is in test/t/166_flushes.pl.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin, "$FindBin::RealBin/../t";
use FaultTest;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);
use WholeSurface;

my $settings = surface_settings('postgres') . <<'EOC';
overten_auth.flush_interval = 2
overten_auth.max_tracked_keys = 200000
EOC
my @rows;

seed();

# The errors that clients have met, but those of fetching, as words.
sub errors_of
{
	my ($load) = @_;
	my $counts = instruct($load, 'counts');

	return map { "$_=$counts->{$_}" } grep { /:/ && !/^refresh/ } sort keys %$counts;
}


# Tables do not fit, the WAL does

my $disk = small_disk('data');
my $node = create_node_on($disk, 'full', $settings,
	extra => [ '-X', PostgreSQL::Test::Utils::tempdir . '/wal' ]);
my $load = start_load($node);
my $since = ask($node, 'SELECT since FROM overten_stat');

instruct($load, 'start');
usleep(2_000_000);
fill($disk);
wait_until('minting, revoking and flushing fail',
	sub { 4 == grep { /^(mint:53100|revoke:53100|flush:55000|control:53100)=([2-9]|..)/ } errors_of($load) });
my $before = instruct($load, 'counts');
usleep(2_000_000);
my $after = instruct($load, 'counts');
cmp_ok($after->{verifications} - $before->{verifications}, '>', 200, 'disk full: verifying goes on');
like(ask($node, 'SELECT flush_failure FROM overten_status()'),
	qr/could not (extend|write)/, 'the state tells why nothing is flushed');
empty_disk($disk);
usleep(2_000_000);
instruct($load, 'stop');
is(join(' ', grep { !/^(flush:55000|(mint|revoke|control):53100)=/ } errors_of($load)), '', 'with the right errors');
my $checked = check_load($load, 'room again');
is($checked->{lost}, 0, 'no use is lost');
is($checked->{counted}, $checked->{accepted}, 'and none is counted twice');
is(ask($node, 'SELECT since FROM overten_stat'), $since, 'the server has been up all the time');
unlike(slurp_file($node->logfile), qr/PANIC|terminated by signal/, 'and no process has crashed');
push @rows,
  [ 'tables do not fit', $after->{verifications} - $before->{verifications}, join(', ', errors_of($load)),
	$checked->{keys}, $checked->{revoked}, $checked->{accepted}, $checked->{lost}, $checked->{wrong} ];
$node->stop;
system_or_bail('rm', '-rf', "$disk/full");


# The WAL does not fit

$disk = small_disk('wal');
$node = create_node('wal', $settings . <<'EOC', extra => [ '--wal-segsize=1', '-X', "$disk/pg_wal" ]);
synchronous_commit = off
wal_writer_delay = 10s
min_wal_size = 2MB
max_wal_size = 32MB
EOC
$load = start_load($node);
foreach my $round (1 .. 4)
{
	my $log = -s $node->logfile;

	instruct($load, 'start' . ($round % 2 ? '' : ' unpaced'));
	usleep(1_500_000);
	fill($disk);
	instruct($load, 'await');
	$node->stop('immediate', fail_ok => 1);
	like(slurp_file($node->logfile, $log), qr/PANIC:  could not write to .*No space left on device/,
		"no room for the WAL, $round: the server stops with a panic");
	empty_disk($disk);
	$node->start;
	my $checked = check_load($load, "and has all of it when there is room, $round");
	cmp_ok($checked->{keys}, '>', 10, 'which is something');
	push @rows,
	  [ "the WAL does not fit, $round", '', join(', ', errors_of($load)),
		$checked->{keys}, $checked->{revoked}, $checked->{accepted}, $checked->{lost}, $checked->{wrong} ];
}
$node->stop;
system_or_bail('rm', '-rf', "$disk/pg_wal");


# The files of the master key do not fit

# What is in a folder that begins like the master key file or its mark.
sub files_in
{
	my ($dir) = @_;

	return join ' ', map { s/.*\///r } glob "$dir/*overten_auth*";
}

$disk = small_disk('key');
my $file = "$disk/overten_auth.key";
$node = create_node('key', "overten_auth.master_key_file = '$file'\n");
my $mark = $node->data_dir . '/overten_auth.sealed';
fill($disk);
foreach my $round (1 .. 3)
{
	is(sqlstate_of($node, "SELECT overten_create_org('Refused')"), '55000', 'no room for the key: nothing is sealed');
}
is(files_in($disk), '', 'no part of a key file is left');
ok(!-e $mark, 'nor the mark');
empty_disk($disk);
my $org = create_org($node, 'Sealed');
is(files_in($disk), 'overten_auth.key', 'with room there is one');
is((-s $file) . ' ' . (() = slurp_file($file) =~ /^[^#\n]{44}$/mg),
	(-s $file) . ' 1', 'with a key');
my $mark_text = slurp_file($mark);
like($mark_text, qr/\A.*cluster\.\n.*on its own\.\n\z/, 'and a whole mark');
$node->stop;

$disk = small_disk('data');
$file = PostgreSQL::Test::Utils::tempdir . '/mark.key';
$node = create_node_on($disk, 'mark', "overten_auth.master_key_file = '$file'\n",
	extra => [ '-X', PostgreSQL::Test::Utils::tempdir . '/mark_wal' ]);
$mark = $node->data_dir . '/overten_auth.sealed';
fill($disk);
foreach my $round (1 .. 3)
{
	is(sqlstate_of($node, "SELECT overten_create_org('Refused')"), '55000', 'no room for the mark: nothing is sealed');
}
is(files_in($node->data_dir), '', 'no part of a mark is left');
my $key = slurp_file($file);
empty_disk($disk);
$org = create_org($node, 'Sealed');
is(files_in($node->data_dir), 'overten_auth.sealed', 'with room there is one');
is(slurp_file($mark), $mark_text, 'which is whole');
is(slurp_file($file), $key, 'and the key is the same');
my ($secret) = mint($node, $org);
$node->stop('immediate');
$node->start;
like(ask($node, "SELECT webhook_secret FROM overten_verify_key('$secret')"), qr/^whsec_/, 'which opens what it has sealed');
$node->stop;
system_or_bail('rm', '-rf', "$disk/mark");

report('Disk full under load, seed ' . seed(),
	[ 'disk', 'verifications in 2 s while it was full', 'errors', 'keys acknowledged and there', 'of these revoked', 'uses since the last check', 'lost', 'wrong' ],
	@rows);
done_testing();
